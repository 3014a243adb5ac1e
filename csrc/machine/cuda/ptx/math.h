// Arithmetic whose rounding matters: fma.rn, max.NaN, cvt (PTX ISA 9.7.3, 9.7.9.22). Everything else in a
// kernel is plain C++ and is compiled without contraction, so that both machines round alike.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

RK_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// NaN if either operand is NaN: ReLU and max-pooling must not hide it.
RK_DEVICE float max_nan(float a, float b) {
  float d;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
  return d;
}

// Two floats rounded to nearest even, lo in the low half.
RK_DEVICE uint32_t cvt_bf16x2(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}

RK_DEVICE uint32_t cvt_f16x2(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}

// Rounded to TF32's 10 mantissa bits, ties away from zero, as the bits of a float.
RK_DEVICE uint32_t cvt_tf32(float a) {
  uint32_t d;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}

RK_DEVICE void unpack_bf16x2(uint32_t pair, float& lo, float& hi) {
  lo = __uint_as_float(pair << 16);
  hi = __uint_as_float(pair & 0xffff0000u);
}

RK_DEVICE void unpack_f16x2(uint32_t pair, float& lo, float& hi) {
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
      : "=f"(lo), "=f"(hi)
      : "r"(pair));
}

}  // namespace ptx
