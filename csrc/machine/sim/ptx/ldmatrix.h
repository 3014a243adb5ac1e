// ldmatrix (PTX ISA 9.7.14.5.15): 8x8 matrices of 16-bit elements from shared memory to fragments.
// Matrix i takes its row addresses from lanes 8i to 8i+7, 16 bytes a row; lane l receives word l%4 of row l/4
// of each matrix (.trans: elements 2(l%4) and 2(l%4)+1 of column l/4).
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {
namespace detail {

extern const rk::sim::Operation kLdmatrixX4, kLdmatrixX4Trans, kLdmatrixX2, kLdmatrixX2Trans;

template <int kCount>
RK_DEVICE void ldmatrix(const rk::sim::Operation& operation, uint32_t (&r)[kCount], uint32_t row,
                        rk::sim::Site site) {
  rk::sim::Slot& slot = rk::sim::slot();
  slot.word[0] = row;
  rk::sim::collective(operation, 0, site);
  for (int i = 0; i < kCount; ++i) r[i] = slot.word[i];
}

}  // namespace detail

RK_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t row, rk::sim::Site site = rk::sim::Site::here()) {
  detail::ldmatrix(detail::kLdmatrixX4, r, row, site);
}
RK_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row, rk::sim::Site site = rk::sim::Site::here()) {
  detail::ldmatrix(detail::kLdmatrixX4Trans, r, row, site);
}
RK_DEVICE void ldmatrix_x2(uint32_t (&r)[2], uint32_t row, rk::sim::Site site = rk::sim::Site::here()) {
  detail::ldmatrix(detail::kLdmatrixX2, r, row, site);
}
RK_DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], uint32_t row, rk::sim::Site site = rk::sim::Site::here()) {
  detail::ldmatrix(detail::kLdmatrixX2Trans, r, row, site);
}

}  // namespace ptx
