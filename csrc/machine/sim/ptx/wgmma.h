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
#include <cstring>

#include <ptx/target.h>

#include "checks/matrix.h"
#include "engine/core.h"
#include "engine/matrix_op.h"

namespace ptx {

using rk::machine::Major;
using rk::machine::MatrixType;

// A thread's part of d. The checked build starts it as NaN and reports whoever touches it too early.
template <int kN>
class WgmmaAccumulator {
  static_assert(kN >= 8 && kN <= 256 && kN % 8 == 0, "n is a multiple of 8 up to 256");

 public:
  static constexpr int kCount = kN / 2;

  WgmmaAccumulator() {
    if constexpr (rk::sim::kChecked) std::memset(value_, 0xff, sizeof value_);
  }
  WgmmaAccumulator(const WgmmaAccumulator&) = delete;  // a wgmma on its way knows where this one is
  WgmmaAccumulator& operator=(const WgmmaAccumulator&) = delete;

  RK_DEVICE float get(int i, rk::sim::Site site = rk::sim::Site::here()) const {
    if constexpr (rk::sim::kChecked) rk::sim::touch_registers(state_, site);
    return value_[i];
  }
  RK_DEVICE void set(int i, float value, rk::sim::Site site = rk::sim::Site::here()) {
    if constexpr (rk::sim::kChecked) rk::sim::touch_registers(state_, site);
    value_[i] = value;
  }

  // For the functions of this file.
  float value_[kCount];
  mutable rk::sim::WgmmaRegisters state_;
};

// A thread's part of a, where that comes from registers.
class WgmmaFragment {
 public:
  WgmmaFragment() = default;
  WgmmaFragment(const WgmmaFragment&) = delete;
  WgmmaFragment& operator=(const WgmmaFragment&) = delete;

  RK_DEVICE uint32_t (&registers(rk::sim::Site site = rk::sim::Site::here()))[4] {
    if constexpr (rk::sim::kChecked) rk::sim::touch_registers(state_, site);
    return word_;
  }

  uint32_t word_[4] = {};
  mutable rk::sim::WgmmaRegisters state_;
};

namespace detail {

extern const rk::sim::Operation kWgmma;

struct WgmmaFlags {
  MatrixType type;
  Major a, b;
  bool from_registers, accumulate;
  uint32_t n;
};
void wgmma(const WgmmaFlags& flags, float* d, rk::sim::WgmmaRegisters& d_state, uint64_t a,
           const uint32_t* a_registers, rk::sim::WgmmaRegisters* a_state, uint64_t b, rk::sim::Site site);

template <class Registers, class Visit>
RK_DEVICE void each(Registers& registers, Visit visit) {
  visit(registers.state_);
}
template <class Registers, int kCount, class Visit>
RK_DEVICE void each(Registers (&registers)[kCount], Visit visit) {
  for (int i = 0; i < kCount; ++i) each(registers[i], visit);
}

}  // namespace detail

// The registers named (accumulators, fragments, arrays of them) may now be used by wgmma.
RK_DEVICE void wgmma_fence(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) static_cast<void>(rk::sim::wgmma_fence(site));
}
template <class A>
RK_DEVICE void wgmma_fence(A& a, rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (rk::sim::wgmma_fence(site)) detail::each(a, rk::sim::fence_registers);
  }
}
template <class A, class B>
RK_DEVICE void wgmma_fence(A& a, B& b, rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::wgmma_fence(site)) return;
    detail::each(a, rk::sim::fence_registers);
    detail::each(b, rk::sim::fence_registers);
  }
}

// Ends the warpgroup's current group of wgmma.
RK_DEVICE void wgmma_commit(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) rk::sim::wgmma_commit(site);
}

// Waits until all but the newest kPending groups are done. The registers named belong to the thread again.
template <int kPending>
RK_DEVICE void wgmma_wait(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) static_cast<void>(rk::sim::wgmma_wait(kPending, site));
}
template <int kPending, class A>
RK_DEVICE void wgmma_wait(A& a, rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (rk::sim::wgmma_wait(kPending, site)) detail::each(a, rk::sim::await_registers);
  }
}
template <int kPending, class A, class B>
RK_DEVICE void wgmma_wait(A& a, B& b, rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::wgmma_wait(kPending, site)) return;
    detail::each(a, rk::sim::await_registers);
    detail::each(b, rk::sim::await_registers);
  }
}

// a and b: machine::matrix_descriptor. Adds to d if `accumulate`, else overwrites it.
template <MatrixType kType, Major kA, Major kB, int kN>
RK_DEVICE void wgmma_ss(WgmmaAccumulator<kN>& d, uint64_t a, uint64_t b, bool accumulate,
                        rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kType != MatrixType::tf32 || (kA == Major::k && kB == Major::k), "TF32 operands are k-major");
  detail::wgmma({kType, kA, kB, false, accumulate, kN}, d.value_, d.state_, a, nullptr, nullptr, b, site);
}

template <MatrixType kType, Major kB, int kN>
RK_DEVICE void wgmma_rs(WgmmaAccumulator<kN>& d, const WgmmaFragment& a, uint64_t b, bool accumulate,
                        rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kType != MatrixType::tf32 || kB == Major::k, "TF32 operands are k-major");
  detail::wgmma({kType, Major::k, kB, true, accumulate, kN}, d.value_, d.state_, 0, a.word_, &a.state_, b,
                site);
}

}  // namespace ptx
