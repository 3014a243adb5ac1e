#include "dispatch/problem.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

namespace rk {

std::string describe(const ConvShape& shape) {
  const auto pair = [](int64_t h, int64_t w) { return std::to_string(h) + "x" + std::to_string(w); };
  return "x [" + std::to_string(shape.n) + ", " + std::to_string(shape.c) + ", " + pair(shape.h, shape.w) +
         "], weight [" + std::to_string(shape.k) + ", " + std::to_string(shape.c) + ", " +
         pair(shape.r, shape.s) + "], stride " + pair(shape.stride_h, shape.stride_w) + ", padding " +
         pair(shape.pad_h, shape.pad_w) + ", dilation " + pair(shape.dilation_h, shape.dilation_w);
}

namespace dispatch {

int32_t index32(int64_t value, const char* what, int32_t spare) {
  if (value < 1 || value > (int64_t{1} << 31) - spare) {
    throw std::runtime_error(std::string(what) + " is " + std::to_string(value) +
                             "; the kernels index 1 to 2^31 - " + std::to_string(spare) +
                             ": split the batch or the image");
  }
  return static_cast<int32_t>(value);
}

void check_indices(const ConvShape& shape) {
  index32(shape.n, "batch");
  index32(shape.c, "channels");
  index32(shape.k, "filters");
  // The last tile of pixels, or of a cluster's, may reach past the last pixel.
  index32(shape.n * shape.h * shape.w, "number of pixels (n h w)", 1024);
  index32(shape.gemm_m(), "number of output pixels (n p q)", 1024);
  index32(shape.gemm_k() * 2, "twice the size of a filter (r s c)");
  // Kernels add padding and window to coordinates before they compare: leave room for both.
  index32(4 * (shape.h + 2 * shape.pad_h) * (shape.w + 2 * shape.pad_w) * shape.c,
          "4 x size of a padded image (h w c)");
}

tile::ConvGeometry fprop_geometry(const ConvShape& shape) {
  check_indices(shape);
  const auto axis = [](int64_t source, int64_t rows, int64_t taps, int64_t stride, int64_t pad,
                       int64_t dilation) {
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

namespace {

// The taps that reach phase `phase` of one axis of dx, in the notation of tile/conv_geometry.h.
//
// dx pixel h = phase + stride i receives from dy pixel p through tap r when h + pad = p stride + r dilation.
// The taps for which p is an integer are r = first + step j with step = stride / gcd(stride, dilation); each
// step lowers p by dilation / gcd, so that p = i + (phase + pad - first dilation) / stride - j dilation /
// gcd.
struct PhaseAxis {
  tile::ConvAxis axis;
  int64_t first_tap, tap_stride;
};

PhaseAxis phase_axis(int64_t phase, int64_t dx_extent, int64_t dy_extent, int64_t taps, int64_t stride,
                     int64_t pad, int64_t dilation) {
  const int64_t common = std::gcd(stride, dilation);
  const int64_t tap_stride = stride / common;
  int64_t first = 0;
  while (first < tap_stride && (phase + pad - first * dilation) % stride != 0) ++first;
  const bool reached = first < tap_stride && first < taps;
  return {.axis = {.source = static_cast<int32_t>(dy_extent),
                   .rows = static_cast<int32_t>((dx_extent - phase + stride - 1) / stride),
                   .taps = static_cast<int32_t>(reached ? (taps - first + tap_stride - 1) / tap_stride : 0),
                   .row_step = 1,
                   .base = static_cast<int32_t>(reached ? (phase + pad - first * dilation) / stride : 0),
                   .tap_step = -static_cast<int32_t>(dilation / common)},
          .first_tap = reached ? first : 0,
          .tap_stride = tap_stride};
}

}  // namespace

std::vector<tile::ConvGeometry> dgrad_geometry(const ConvShape& shape) {
  check_indices(shape);
  index32(4 * shape.p() * shape.q() * shape.k, "4 x size of an output image (p q k)");
  index32(shape.n * shape.h * shape.w, "number of pixels (n h w)");
  index32(2 * shape.r * shape.s * shape.k, "twice the size of a transposed filter (r s k)");
  const int64_t tap_row = shape.s * shape.k;
  std::vector<tile::ConvGeometry> phases;
  for (int64_t phase_h = 0; phase_h < std::min(shape.stride_h, shape.h); ++phase_h) {
    for (int64_t phase_w = 0; phase_w < std::min(shape.stride_w, shape.w); ++phase_w) {
      const PhaseAxis h =
          phase_axis(phase_h, shape.h, shape.p(), shape.r, shape.stride_h, shape.pad_h, shape.dilation_h);
      const PhaseAxis w =
          phase_axis(phase_w, shape.w, shape.q(), shape.s, shape.stride_w, shape.pad_w, shape.dilation_w);
      phases.push_back({.n = static_cast<int32_t>(shape.n),
                        .h = h.axis,
                        .w = w.axis,
                        .channels = static_cast<int32_t>(shape.k),
                        .columns = static_cast<int32_t>(shape.c),
                        .weight_column = static_cast<int32_t>(shape.r * tap_row),
                        .weight_tap_h = static_cast<int32_t>(h.tap_stride * tap_row),
                        .weight_tap_w = static_cast<int32_t>(w.tap_stride * shape.k),
                        .weight_first = static_cast<int32_t>(h.first_tap * tap_row + w.first_tap * shape.k),
                        .output_h = {.extent = static_cast<int32_t>(shape.h),
                                     .step = static_cast<int32_t>(shape.stride_h),
                                     .first = static_cast<int32_t>(phase_h)},
                        .output_w = {.extent = static_cast<int32_t>(shape.w),
                                     .step = static_cast<int32_t>(shape.stride_w),
                                     .first = static_cast<int32_t>(phase_w)},
                        .dense_output = shape.stride_h == 1 && shape.stride_w == 1,
                        .divide_rows = tile::Divisor(static_cast<uint32_t>(h.axis.rows * w.axis.rows)),
                        .divide_rows_w = tile::Divisor(static_cast<uint32_t>(w.axis.rows))});
    }
  }
  std::stable_sort(phases.begin(), phases.end(),
                   [](const auto& a, const auto& b) { return a.gemm_k() > b.gemm_k(); });
  return phases;
}

bool aligned_view(DType dtype, const ResidualView& view) {
  return view.channels * element_bytes(dtype) % 16 == 0;
}

bool aligned(std::initializer_list<const void*> tensors) {
  for (const void* tensor : tensors) {
    if (reinterpret_cast<uintptr_t>(tensor) % 16 != 0) return false;
  }
  return true;
}

bool aligned_chunks(DType dtype, int64_t channels, std::initializer_list<const void*> tensors) {
  return channels * element_bytes(dtype) % 16 == 0 && aligned(tensors);
}

}  // namespace dispatch
}  // namespace rk
