// fma.rn.oob (PTX ISA 9.7.4.4): a b + c in each half of a word, and +0 wherever a or b is the NaN that a load
// with Fill::nan leaves outside the tensor; other NaNs go through. sm_90 and newer.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

RK_DEVICE uint32_t fma_oob_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.oob.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

RK_DEVICE uint32_t fma_oob_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.oob.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

}  // namespace ptx
