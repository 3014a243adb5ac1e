// A residual that is not of the output's shape (api.h: ResidualView).
#pragma once

#include <cstdint>

#include <ptx/ids.h>

#include "api.h"

namespace rk::tile {

constexpr int64_t residual_elements(const ResidualView& view, int64_t images, int64_t output_elements) {
  return view.channels == 0 ? output_elements : images * view.h * view.w * view.channels;
}

// The residual's pixel for pixel (h, w) of image n of the output; false if there is none.
RK_DEVICE bool residual_pixel(const ResidualView& view, uint32_t n, int32_t h, int32_t w, int64_t& pixel) {
  const int32_t scaled_h = h * view.multiply_h, scaled_w = w * view.multiply_w;
  if (scaled_h % view.divide_h != 0 || scaled_w % view.divide_w != 0) return false;
  pixel = (int64_t{n} * view.h + scaled_h / view.divide_h) * view.w + scaled_w / view.divide_w;
  return true;
}

}  // namespace rk::tile
