// wgmma (PTX ISA 9.7.15): d = a b, or d += a b, by the four warps of a warpgroup; m is 64, n a multiple of 8
// up to 256, k one step of 32 bytes. b comes from shared memory, a from there or from registers.
//
// Warp w of the group holds rows 16w to 16w + 15 of d, as mma.m16n8 does: with g = lane / 4 and t = lane % 4,
// elements 4j to 4j + 3 are (g, 8j + 2t), (g, 8j + 2t + 1), (g + 8, 8j + 2t), (g + 8, 8j + 2t + 1). A
// fragment of a is that of mma.m16n8k16, or m16n8k8 for TF32.
//
// wgmma runs beside the threads. Registers that it reads or writes are not to be touched between the
// instruction and the wgmma_wait that names them; before it, wgmma_fence has to name those which were. All
// threads of the warpgroup execute the same.
#pragma once

#include <cstdint>

#include <ptx/target.h>
#include <ptx/wgmma_registers.h>

#include "machine/matrix_operand.h"

namespace ptx {

using rk::machine::Major;
using rk::machine::MatrixType;

// A thread's part of d. Registers, as long as indices are constants after unrolling.
template <int kN>
class WgmmaAccumulator {
  static_assert(kN >= 8 && kN <= 256 && kN % 8 == 0, "n is a multiple of 8 up to 256");

 public:
  static constexpr int kCount = kN / 2;

  RK_DEVICE float get(int i) const { return value_[i]; }
  RK_DEVICE void set(int i, float value) { value_[i] = value; }

  // For the functions of this file.
  float value_[kCount];
};

// A thread's part of a, where that comes from registers.
class WgmmaFragment {
 public:
  RK_DEVICE uint32_t (&registers())[4] { return word_; }

  uint32_t word_[4];
};

namespace detail {

// The compiler takes these registers for read and written here: it can move no access across.
template <int kN>
RK_DEVICE void pin(WgmmaAccumulator<kN>& d) {
  RK_UNROLL
  for (int i = 0; i < kN / 2; ++i) asm volatile("" : "+f"(d.value_[i])::"memory");
}
RK_DEVICE void pin(WgmmaFragment& a) {
  RK_UNROLL
  for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a.word_[i])::"memory");
}
template <class T, int kCount>
RK_DEVICE void pin(T (&each)[kCount]) {
  RK_UNROLL
  for (int i = 0; i < kCount; ++i) pin(each[i]);
}

}  // namespace detail

// The registers named (accumulators, fragments, arrays of them) may now be used by wgmma.
template <class... Registers>
RK_DEVICE void wgmma_fence(Registers&... registers) {
  (detail::pin(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Ends the warpgroup's current group of wgmma.
RK_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until all but the newest kPending groups are done. The registers named belong to the thread again.
template <int kPending, class... Registers>
RK_DEVICE void wgmma_wait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  (detail::pin(registers), ...);
}

namespace detail {

// One form of the instruction for one n: a from shared memory (a descriptor) and from registers.
template <MatrixType kType, int kN>
struct Wgmma;

#define RK_WGMMA_16(type, name, n, text, o0, o1, o2, o3, o4, o5, o6)                                       \
  template <>                                                                                              \
  struct Wgmma<MatrixType::type, n> {                                                                      \
    template <int kTransA, int kTransB>                                                                    \
    static RK_DEVICE void ss(float (&d)[n / 2], uint64_t a, uint64_t b, uint32_t accumulate) {             \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " o2 ", 0; wgmma.mma_async.sync.aligned.m64n" #n        \
                   "k16.f32." name "." name " {" text "}, " o0 ", " o1 ", p, 1, 1, " o3 ", " o4 "; }"      \
                   : RK_REGISTERS_##n                                                                      \
                   : "l"(a), "l"(b), "r"(accumulate), "n"(kTransA), "n"(kTransB));                         \
    }                                                                                                      \
    template <int kTransB>                                                                                 \
    static RK_DEVICE void rs(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) { \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " o5 ", 0; wgmma.mma_async.sync.aligned.m64n" #n        \
                   "k16.f32." name "." name " {" text "}, {" o0 ", " o1 ", " o2 ", " o3 "}, " o4           \
                   ", p, 1, 1, " o6 "; }"                                                                  \
                   : RK_REGISTERS_##n                                                                      \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransB));   \
    }                                                                                                      \
  };

#define RK_WGMMA_TF32(n, text, o0, o1, o2, o3, o4, o5)                                                     \
  template <>                                                                                              \
  struct Wgmma<MatrixType::tf32, n> {                                                                      \
    template <int, int>                                                                                    \
    static RK_DEVICE void ss(float (&d)[n / 2], uint64_t a, uint64_t b, uint32_t accumulate) {             \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " o2 ", 0; wgmma.mma_async.sync.aligned.m64n" #n        \
                   "k8.f32.tf32.tf32 {" text "}, " o0 ", " o1 ", p, 1, 1; }"                               \
                   : RK_REGISTERS_##n                                                                      \
                   : "l"(a), "l"(b), "r"(accumulate));                                                     \
    }                                                                                                      \
    template <int>                                                                                         \
    static RK_DEVICE void rs(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) { \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " o5 ", 0; wgmma.mma_async.sync.aligned.m64n" #n        \
                   "k8.f32.tf32.tf32 {" text "}, {" o0 ", " o1 ", " o2 ", " o3 "}, " o4 ", p, 1, 1; }"     \
                   : RK_REGISTERS_##n                                                                      \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                 \
    }                                                                                                      \
  };

#define RK_WGMMA_BF16_N(n, text, o0, o1, o2, o3, o4, o5, o6) \
  RK_WGMMA_16(bf16, "bf16", n, text, o0, o1, o2, o3, o4, o5, o6)
#define RK_WGMMA_F16_N(n, text, o0, o1, o2, o3, o4, o5, o6) \
  RK_WGMMA_16(f16, "f16", n, text, o0, o1, o2, o3, o4, o5, o6)
#define RK_WGMMA_TF32_N(n, text, o0, o1, o2, o3, o4, o5, o6) RK_WGMMA_TF32(n, text, o0, o1, o2, o3, o4, o5)

RK_EACH_N(RK_WGMMA_BF16_N)
RK_EACH_N(RK_WGMMA_F16_N)
RK_EACH_N(RK_WGMMA_TF32_N)

}  // namespace detail

// a and b: machine::matrix_descriptor. Adds to d if `accumulate`, else overwrites it.
template <MatrixType kType, Major kA, Major kB, int kN>
RK_DEVICE void wgmma_ss(WgmmaAccumulator<kN>& d, uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kType != MatrixType::tf32 || (kA == Major::k && kB == Major::k), "TF32 operands are k-major");
  detail::Wgmma<kType, kN>::template ss<kA == Major::mn, kB == Major::mn>(d.value_, a, b, accumulate);
}

template <MatrixType kType, Major kB, int kN>
RK_DEVICE void wgmma_rs(WgmmaAccumulator<kN>& d, const WgmmaFragment& a, uint64_t b, bool accumulate) {
  static_assert(kType != MatrixType::tf32 || kB == Major::k, "TF32 operands are k-major");
  detail::Wgmma<kType, kN>::template rs<kB == Major::mn>(d.value_, a.word_, b, accumulate);
}

}  // namespace ptx
