// Arithmetic whose rounding matters: fma.rn, max.NaN, cvt (PTX ISA 9.7.3, 9.7.9.22).
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/target.h>

namespace ptx {
namespace detail {

// IEEE binary16. GCC 12 spells it differently on ARM.
#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif

// Round to nearest even on the bits; NaN becomes the canonical 0x7fff of PTX.
inline uint32_t bf16_bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (value != value) return 0x7fffu;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

inline uint32_t f16_bits(float value) {
  if (value != value) return 0x7fffu;
  return std::bit_cast<uint16_t>(static_cast<Half>(value));
}

inline float f16_value(uint32_t bits) {
  return static_cast<float>(std::bit_cast<Half>(static_cast<uint16_t>(bits)));
}

}  // namespace detail

RK_DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// NaN if either operand is NaN; +0 is above -0.
RK_DEVICE float max_nan(float a, float b) {
  if (a != a || b != b) return std::bit_cast<float>(0x7fffffffu);
  if (a == b) return std::bit_cast<float>(std::bit_cast<uint32_t>(a) & std::bit_cast<uint32_t>(b));
  return a > b ? a : b;
}

// Two floats rounded to nearest even, lo in the low half.
RK_DEVICE uint32_t cvt_bf16x2(float lo, float hi) {
  return detail::bf16_bits(lo) | detail::bf16_bits(hi) << 16;
}
RK_DEVICE uint32_t cvt_f16x2(float lo, float hi) { return detail::f16_bits(lo) | detail::f16_bits(hi) << 16; }

// Rounded to TF32's 10 mantissa bits, ties away from zero, as the bits of a float.
RK_DEVICE uint32_t cvt_tf32(float a) {
  const auto bits = std::bit_cast<uint32_t>(a);
  if (a != a) return 0x7fffffffu;
  if ((bits & 0x7fffffffu) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

RK_DEVICE void unpack_bf16x2(uint32_t pair, float& lo, float& hi) {
  lo = std::bit_cast<float>(pair << 16);
  hi = std::bit_cast<float>(pair & 0xffff0000u);
}

RK_DEVICE void unpack_f16x2(uint32_t pair, float& lo, float& hi) {
  lo = detail::f16_value(pair & 0xffffu);
  hi = detail::f16_value(pair >> 16);
}

}  // namespace ptx
