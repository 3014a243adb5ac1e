// mma.sync (PTX ISA 9.7.14.5): d += a b on the tensor cores, a row-major, b column-major, float32
// accumulators. With g = lane / 4 and t = lane % 4: d holds rows g, g, g+8, g+8 and columns 2t, 2t+1, 2t,
// 2t+1. Products are exact and sums are rounded to nearest in a fixed order: within 2^-21 sum |a b| of the
// exact result.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {
namespace detail {

extern const rk::sim::Operation kMmaBf16, kMmaF16, kMmaTf32;

// Slot: d in words 0 to 3, a in 4 to 7, b in 8 and 9.
RK_DEVICE void mma(const rk::sim::Operation& operation, float (&d)[4], const uint32_t (&a)[4],
                   const uint32_t (&b)[2], rk::sim::Site site) {
  rk::sim::Slot& slot = rk::sim::slot();
  std::memcpy(&slot.word[0], d, 16);
  std::memcpy(&slot.word[4], a, 16);
  std::memcpy(&slot.word[8], b, 8);
  rk::sim::collective(operation, 0, site);
  std::memcpy(d, &slot.word[0], 16);
}

}  // namespace detail

// m16n8k16: a holds (g, 2t..), (g+8, 2t..), (g, 2t+8..), (g+8, 2t+8..); b holds (2t.., g), (2t+8.., g); two
// 16-bit elements a register.
RK_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 rk::sim::Site site = rk::sim::Site::here()) {
  detail::mma(detail::kMmaBf16, d, a, b, site);
}

RK_DEVICE void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                rk::sim::Site site = rk::sim::Site::here()) {
  detail::mma(detail::kMmaF16, d, a, b, site);
}

// m16n8k8: a holds (g, t), (g+8, t), (g, t+4), (g+8, t+4); b holds (t, g), (t+4, g); one TF32 element a
// register, whose low 13 bits the hardware ignores.
RK_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                rk::sim::Site site = rk::sim::Site::here()) {
  detail::mma(detail::kMmaTf32, d, a, b, site);
}

}  // namespace ptx
