// stmatrix (PTX ISA 9.7.14.5.16): 8x8 matrices of 16-bit elements from fragments to shared memory, the
// inverse of ldmatrix. Matrix i takes its row addresses from lanes 8i to 8i+7, 16 bytes a row.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {
namespace detail {

extern const rk::sim::Operation kStmatrixX4, kStmatrixX4Trans, kStmatrixX2;

// Slot: the row's address in word 0, the registers after it.
template <int kCount>
RK_DEVICE void stmatrix(const rk::sim::Operation& operation, uint32_t row, const uint32_t (&r)[kCount],
                        rk::sim::Site site) {
  rk::sim::Slot& slot = rk::sim::slot();
  slot.word[0] = row;
  for (int i = 0; i < kCount; ++i) slot.word[1 + i] = r[i];
  rk::sim::collective(operation, 0, site);
}

}  // namespace detail

RK_DEVICE void stmatrix_x4(uint32_t row, const uint32_t (&r)[4], rk::sim::Site site = rk::sim::Site::here()) {
  detail::stmatrix(detail::kStmatrixX4, row, r, site);
}
RK_DEVICE void stmatrix_x4_trans(uint32_t row, const uint32_t (&r)[4],
                                 rk::sim::Site site = rk::sim::Site::here()) {
  detail::stmatrix(detail::kStmatrixX4Trans, row, r, site);
}
RK_DEVICE void stmatrix_x2(uint32_t row, const uint32_t (&r)[2], rk::sim::Site site = rk::sim::Site::here()) {
  detail::stmatrix(detail::kStmatrixX2, row, r, site);
}

}  // namespace ptx
