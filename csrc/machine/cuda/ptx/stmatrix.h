// stmatrix (PTX ISA 9.7.14.5.16): 8x8 matrices of 16-bit elements from fragments to shared memory, the
// inverse of ldmatrix. Matrix i takes its row addresses from lanes 8i to 8i+7, 16 bytes a row.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

RK_DEVICE void stmatrix_x4(uint32_t row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

RK_DEVICE void stmatrix_x4_trans(uint32_t row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

RK_DEVICE void stmatrix_x2(uint32_t row, const uint32_t (&r)[2]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.shared::cta.b16 [%0], {%1, %2};" ::"r"(row), "r"(r[0]),
               "r"(r[1])
               : "memory");
}

}  // namespace ptx
