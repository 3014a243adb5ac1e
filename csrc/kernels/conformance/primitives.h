// One struct a primitive: what each thread does with kIn words of its own and kOut words that it gives back.
//
// Tests feed the same words to both machines and to a NumPy model, so a primitive does nothing but its
// instruction and what it takes to feed it. Words are raw bits; kThreads threads a block, kBlocks blocks
// along x.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/mma.h>
#include <ptx/shared.h>
#include <ptx/target.h>
#include <ptx/warp.h>

namespace rk::primitives {

struct Defaults {
  static constexpr uint32_t kThreads = 32, kBlocks = 1, kCluster = 1, kSmem = 0, kIn = 1, kOut = 1;
  static constexpr bool kPdl = false;  // programmatic dependent launch
};

RK_DEVICE float as_float(uint32_t word) {
  float value;
  memcpy(&value, &word, 4);
  return value;
}
RK_DEVICE uint32_t as_word(float value) {
  uint32_t word;
  memcpy(&word, &value, 4);
  return word;
}
template <class T>
RK_DEVICE T narrow(const uint32_t* words) {
  T value;
  memcpy(&value, words, sizeof value);
  return value;
}

// ---- who am I

struct Ids : Defaults {
  static constexpr uint32_t kThreads = 96, kBlocks = 3, kOut = 10;
  static RK_DEVICE void apply(const uint32_t*, uint32_t* out) {
    out[0] = ptx::tid_x();
    out[1] = ptx::ntid_x();
    out[2] = ptx::ctaid_x();
    out[3] = ptx::ctaid_y();
    out[4] = ptx::ctaid_z();
    out[5] = ptx::nctaid_x();
    out[6] = ptx::nctaid_y();
    out[7] = ptx::nctaid_z();
    out[8] = ptx::lane_id();
    out[9] = ptx::warp_id();
  }
};

// ---- barriers: words change places through shared memory

struct Barrier : Defaults {
  static constexpr uint32_t kThreads = 128, kBlocks = 2, kSmem = 4 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    ptx::st_shared(ptx::smem_base() + 4 * ptx::tid_x(), in[0]);
    ptx::barrier_sync();
    out[0] = ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (kThreads - 1 - ptx::tid_x()));
  }
};

// Warps 0 and 1 give words to warps 2 and 3 through barrier 1 and keep their own.
struct NamedBarrier : Defaults {
  static constexpr uint32_t kThreads = 128, kSmem = 4 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t tid = ptx::tid_x();
    if (tid < 64) {
      ptx::st_shared(ptx::smem_base() + 4 * tid, in[0]);
      ptx::barrier_arrive<1>(kThreads);
      out[0] = in[0];
    } else {
      ptx::barrier_sync<1>(kThreads);
      out[0] = ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (kThreads - 1 - tid));
    }
  }
};

struct WarpSync : Defaults {
  static constexpr uint32_t kThreads = 64, kSmem = 4 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    ptx::st_shared(ptx::smem_base() + 4 * ptx::tid_x(), in[0]);
    ptx::warp_sync();
    out[0] = ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (ptx::tid_x() ^ 13));
  }
};

// ---- exchanges: in = {value, operand}

struct ShflXor : Defaults {
  static constexpr uint32_t kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) { out[0] = ptx::shfl_xor(in[0], in[1]); }
};
struct ShflDown : Defaults {
  static constexpr uint32_t kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) { out[0] = ptx::shfl_down(in[0], in[1]); }
};
struct ShflUp : Defaults {
  static constexpr uint32_t kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) { out[0] = ptx::shfl_up(in[0], in[1]); }
};
struct ShflIdx : Defaults {
  static constexpr uint32_t kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) { out[0] = ptx::shfl_idx(in[0], in[1]); }
};

// The lowest bit of the word votes. Two warps: each counts its own lanes.
struct Votes : Defaults {
  static constexpr uint32_t kThreads = 64, kOut = 3;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const bool predicate = (in[0] & 1) != 0;
    out[0] = ptx::ballot(predicate);
    out[1] = ptx::any(predicate);
    out[2] = ptx::all(predicate);
  }
};

// ---- memory: a T of the input's bytes goes through shared memory to the neighbouring lane

template <class T>
struct Shared : Defaults {
  static constexpr uint32_t kIn = 4, kOut = 4, kSmem = 32 * sizeof(T);
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t slot = ptx::smem_base() + ptx::lane_id() * sizeof(T);
    ptx::st_shared(slot, narrow<T>(in));
    ptx::warp_sync();
    const T value = ptx::ld_shared<T>(slot ^ sizeof(T));
    memcpy(out, &value, sizeof value);
  }
};

// Two copies of kBytes in two groups, with in[8] and in[9] source bytes, over words that were all ones.
template <int kBytes>
struct CpAsync : Defaults {
  static constexpr uint32_t kIn = 12, kOut = 8, kSmem = 32 * 32;
  static RK_DEVICE void apply_at(const uint32_t* global, const uint32_t* in, uint32_t* out) {
    const uint32_t slot = ptx::smem_base() + ptx::lane_id() * 32;
    constexpr uint32_t kOnes = 0xffffffffu;
    ptx::st_shared(slot, Words4{{kOnes, kOnes, kOnes, kOnes}});
    ptx::st_shared(slot + 16, Words4{{kOnes, kOnes, kOnes, kOnes}});
    ptx::cp_async<kBytes>(slot, global, in[8]);
    ptx::cp_async_commit();
    ptx::cp_async<kBytes>(slot + 16, global + 4, in[9]);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    const auto first = ptx::ld_shared<Words4>(slot);
    ptx::cp_async_wait<0>();
    const auto second = ptx::ld_shared<Words4>(slot + 16);
    memcpy(out, &first, 16);
    memcpy(out + 4, &second, 16);
  }
};

// Lane l stores in[0..3] as row l of 16 bytes and gives the address of row in[4].
template <int kCount, bool kTrans>
struct Ldmatrix : Defaults {
  static constexpr uint32_t kIn = 8, kOut = kCount, kSmem = 32 * 16;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    ptx::st_shared(ptx::smem_base() + 16 * ptx::lane_id(), Words4{{in[0], in[1], in[2], in[3]}});
    ptx::warp_sync();
    const uint32_t row = ptx::smem_base() + 16 * in[4];
    uint32_t r[kCount];
    if constexpr (kCount == 4) {
      if constexpr (kTrans) {
        ptx::ldmatrix_x4_trans(r, row);
      } else {
        ptx::ldmatrix_x4(r, row);
      }
    } else {
      if constexpr (kTrans) {
        ptx::ldmatrix_x2_trans(r, row);
      } else {
        ptx::ldmatrix_x2(r, row);
      }
    }
    for (int i = 0; i < kCount; ++i) out[i] = r[i];
  }
};

// ---- mma: in = {d[4], a[4], b[2]}

enum class MmaType { bf16, f16, tf32 };

template <MmaType kType>
struct Mma : Defaults {
  static constexpr uint32_t kIn = 12, kOut = 4;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    float d[4] = {as_float(in[0]), as_float(in[1]), as_float(in[2]), as_float(in[3])};
    const uint32_t a[4] = {in[4], in[5], in[6], in[7]};
    const uint32_t b[2] = {in[8], in[9]};
    if constexpr (kType == MmaType::bf16) {
      ptx::mma_m16n8k16_bf16(d, a, b);
    } else if constexpr (kType == MmaType::f16) {
      ptx::mma_m16n8k16_f16(d, a, b);
    } else {
      ptx::mma_m16n8k8_tf32(d, a, b);
    }
    for (int i = 0; i < 4; ++i) out[i] = as_word(d[i]);
  }
};

// ---- arithmetic

struct Fma : Defaults {
  static constexpr uint32_t kThreads = 128, kIn = 4;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = as_word(ptx::fma(as_float(in[0]), as_float(in[1]), as_float(in[2])));
  }
};
struct MaxNan : Defaults {
  static constexpr uint32_t kThreads = 128, kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = as_word(ptx::max_nan(as_float(in[0]), as_float(in[1])));
  }
};
struct CvtBf16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = ptx::cvt_bf16x2(as_float(in[0]), as_float(in[1]));
  }
};
struct CvtF16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kIn = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = ptx::cvt_f16x2(as_float(in[0]), as_float(in[1]));
  }
};
struct CvtTf32 : Defaults {
  static constexpr uint32_t kThreads = 128;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) { out[0] = ptx::cvt_tf32(as_float(in[0])); }
};
struct UnpackBf16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kOut = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    float lo, hi;
    ptx::unpack_bf16x2(in[0], lo, hi);
    out[0] = as_word(lo);
    out[1] = as_word(hi);
  }
};
struct UnpackF16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kOut = 2;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    float lo, hi;
    ptx::unpack_f16x2(in[0], lo, hi);
    out[0] = as_word(lo);
    out[1] = as_word(hi);
  }
};

}  // namespace rk::primitives
