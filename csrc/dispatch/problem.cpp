#include "dispatch/problem.h"

#include <limits>
#include <stdexcept>
#include <string>

namespace rk {

std::string describe(const ConvShape& shape) {
  const auto pair = [](int64_t h, int64_t w) { return std::to_string(h) + "x" + std::to_string(w); };
  return "x [" + std::to_string(shape.n) + ", " + std::to_string(shape.c) + ", " + pair(shape.h, shape.w) +
         "], weight [" + std::to_string(shape.k) + ", " + std::to_string(shape.c) + ", " + pair(shape.r, shape.s) +
         "], stride " + pair(shape.stride_h, shape.stride_w) + ", padding " + pair(shape.pad_h, shape.pad_w) +
         ", dilation " + pair(shape.dilation_h, shape.dilation_w);
}

namespace dispatch {

int32_t index32(int64_t value, const char* what) {
  if (value < 1 || value > std::numeric_limits<int32_t>::max()) {
    throw std::runtime_error(std::string(what) + " is " + std::to_string(value) +
                             "; the kernels index 1 to 2^31 - 1: split the batch or the image");
  }
  return static_cast<int32_t>(value);
}

void check_indices(const ConvShape& shape) {
  index32(shape.n, "batch");
  index32(shape.c, "channels");
  index32(shape.k, "filters");
  index32(shape.gemm_m(), "number of output pixels (n p q)");
  index32(shape.gemm_k() * 2, "twice the size of a filter (r s c)");
  // Kernels add padding and window to coordinates before they compare: leave room for both.
  index32(4 * (shape.h + 2 * shape.pad_h) * (shape.w + 2 * shape.pad_w) * shape.c, "4 x size of a padded image (h w c)");
}

tile::ConvGeometry fprop_geometry(const ConvShape& shape) {
  check_indices(shape);
  const auto axis = [](int64_t source, int64_t rows, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
    return tile::ConvAxis{.source = static_cast<int32_t>(source),
                          .rows = static_cast<int32_t>(rows),
                          .taps = static_cast<int32_t>(taps),
                          .row_step = static_cast<int32_t>(stride),
                          .base = -static_cast<int32_t>(pad),
                          .tap_step = static_cast<int32_t>(dilation)};
  };
  const auto c = static_cast<int32_t>(shape.c);
  const auto s = static_cast<int32_t>(shape.s);
  const auto p = static_cast<int32_t>(shape.p());
  const auto q = static_cast<int32_t>(shape.q());
  return {.n = static_cast<int32_t>(shape.n),
          .h = axis(shape.h, p, shape.r, shape.stride_h, shape.pad_h, shape.dilation_h),
          .w = axis(shape.w, q, shape.s, shape.stride_w, shape.pad_w, shape.dilation_w),
          .channels = c,
          .columns = static_cast<int32_t>(shape.k),
          .weight_column = static_cast<int32_t>(shape.gemm_k()),
          .weight_tap_h = s * c,
          .weight_tap_w = c,
          .weight_first = 0,
          .output_h = {.extent = p, .step = 1, .first = 0},
          .output_w = {.extent = q, .step = 1, .first = 0},
          .dense_output = true,
          .divide_rows = tile::Divisor(static_cast<uint32_t>(p * q)),
          .divide_rows_w = tile::Divisor(static_cast<uint32_t>(q))};
}

bool aligned_chunks(DType dtype, int64_t channels, std::initializer_list<const void*> tensors) {
  if (channels * element_bytes(dtype) % 16 != 0) return false;
  for (const void* tensor : tensors) {
    if (reinterpret_cast<uintptr_t>(tensor) % 16 != 0) return false;
  }
  return true;
}

}  // namespace dispatch
}  // namespace rk
