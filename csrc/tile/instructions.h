// What multiplies: an element format and the tensor-core instruction for it, or FFMA.
//
// operand() prepares a 32-bit word of a fragment; mma() multiplies a 16 x 32-byte fragment by an 8 x 32-byte
// one.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/math.h>
#include <ptx/mma.h>

#include "tile/format.h"

namespace rk::tile {

struct MmaBf16 {
  using Format = Bf16;
  static constexpr char kName[] = "bf16";
  static RK_DEVICE uint32_t operand(uint32_t word) { return word; }
  static RK_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_m16n8k16_bf16(d, a, b);
  }
};

struct MmaF16 {
  using Format = F16;
  static constexpr char kName[] = "f16";
  static RK_DEVICE uint32_t operand(uint32_t word) { return word; }
  static RK_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_m16n8k16_f16(d, a, b);
  }
};

// float32 in memory, rounded to TF32 on its way into the tensor core (left to itself, mma would truncate).
struct MmaTf32 {
  using Format = F32;
  static constexpr char kName[] = "tf32";
  static RK_DEVICE uint32_t operand(uint32_t word) { return ptx::cvt_tf32(std::bit_cast<float>(word)); }
  static RK_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_m16n8k8_tf32(d, a, b);
  }
};

// Strict float32: every product and sum rounded to float32, in the order of the depth.
struct Ffma {
  using Format = F32;
  static constexpr char kName[] = "f32";
};

}  // namespace rk::tile
