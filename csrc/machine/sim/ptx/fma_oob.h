// fma.rn.oob (PTX ISA 9.7.4.4): a b + c in each half of a word, and +0 wherever a or b is the NaN that a load
// with Fill::nan leaves outside the tensor; other NaNs go through. sm_90 and newer.
//
// Here a b + c is rounded to float32 on its way: the same bits where that is exact.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/math.h>
#include <ptx/target.h>

#include "machine/tensor_map.h"

namespace ptx {
namespace detail {

template <float (*kValue)(uint32_t), uint32_t (*kBits)(float)>
uint32_t fma_oob(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const uint32_t x = a >> shift & 0xffff, y = b >> shift & 0xffff;
    if (x == rk::machine::kOutOfBoundsNan || y == rk::machine::kOutOfBoundsNan) continue;
    d |= kBits(fma(kValue(x), kValue(y), kValue(c >> shift & 0xffff))) << shift;
  }
  return d;
}

inline float bf16_value(uint32_t bits) { return std::bit_cast<float>(bits << 16); }

}  // namespace detail

RK_DEVICE uint32_t fma_oob_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  return detail::fma_oob<detail::bf16_value, detail::bf16_bits>(a, b, c);
}

RK_DEVICE uint32_t fma_oob_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  return detail::fma_oob<detail::f16_value, detail::f16_bits>(a, b, c);
}

}  // namespace ptx
