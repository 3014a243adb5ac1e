// BatchNorm, pooling, padding and the stem: problem -> launch.
#include <stdexcept>

#include "api.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"

namespace rk {

using dispatch::aligned_chunks;
using dispatch::index32;

bool stem_is_fused(const ConvShape& shape, DType dtype) {
  return dtype != DType::f32 && shape.r == 7 && shape.s == 7 && shape.c == 3 && shape.stride_h == 2 &&
         shape.stride_w == 2 && shape.dilation_h == 1 && shape.dilation_w == 1;
}

// Whether the kernels for sm_90 take it: TMA moves whole 16-byte chunks.
static bool stem_is_for_sm90(const ConvShape& shape, DType dtype, const void* x, const void* y) {
  return stem_is_fused(shape, dtype) && shape.pad_h == 3 && shape.pad_w == 3 &&
         aligned_chunks(dtype, shape.w * shape.c, {x}) && aligned_chunks(dtype, shape.k, {y}) &&
         machine::compute_capability() == 90;
}

void stem_fprop(const Stem& problem) {
  const tile::ConvGeometry conv = dispatch::fprop_geometry(problem.shape);
  if (stem_is_for_sm90(problem.shape, problem.dtype, problem.x, problem.y))
    return sm90::launch_stem_fprop(problem);
  sm80::launch_stem_fprop(conv, problem);
}

bool stem_has_statistics(const ConvShape& shape, DType dtype, const void* x) {
  return shape.n > 0 && shape.k > 0 && shape.p() % sm90::kStemStatisticsRows == 0 &&
         stem_is_for_sm90(shape, dtype, x, nullptr);
}

RowTiles stem_row_tiles(const ConvShape& shape) {
  const int64_t rows = sm90::kStemStatisticsRows / 2;
  return {.tiles = shape.n * shape.p() / rows, .tile_rows = rows * shape.q()};
}

void stem_statistics(const StemStatistics& problem) {
  dispatch::check_indices(problem.shape);
  if (!stem_has_statistics(problem.shape, problem.dtype, problem.x) ||
      !stem_is_for_sm90(problem.shape, problem.dtype, problem.x, problem.y)) {
    throw std::runtime_error("stem_statistics: no kernel for " + describe(problem.shape));
  }
  sm90::launch_stem_statistics(problem);
}

void pad_channels(const PadChannels& problem) {
  index32((problem.rows + 255) / 256, "rows to pad, in blocks");
  sm80::launch_pad_channels(problem.dtype, problem.rows, problem.c, problem.x, problem.y, problem.stream);
}

void bn_apply(const BnApply& problem) {
  index32(problem.channels, "channels");
  const ResidualView& view = problem.normalise.residual_view;
  if (view.channels != 0) index32(problem.n * problem.h * problem.w, "number of pixels (n h w)");
  const bool vector =
      dispatch::aligned_view(problem.dtype, view) &&
      aligned_chunks(problem.dtype, problem.channels, {problem.x, problem.normalise.residual, problem.y});
  sm80::launch_bn_apply(problem, vector);
}

void bn_finalize(const BnFinalize& problem) {
  index32(problem.channels, "channels");
  sm80::launch_bn_finalize(problem);
}

void bn_backward_reduce(const BnBackwardReduce& problem) {
  index32(problem.channels, "channels");
  const bool vector =
      aligned_chunks(problem.dtype, problem.channels, {problem.g, problem.x, problem.other_x, problem.h});
  sm80::launch_bn_backward_reduce(problem, vector);
}

void bn_backward_finalize(const BnBackwardFinalize& problem) {
  index32(problem.channels, "channels");
  sm80::launch_bn_backward_finalize(problem);
}

void bn_backward_apply(const BnBackwardApply& problem) {
  index32(problem.channels, "channels");
  const bool vector =
      aligned_chunks(problem.dtype, problem.channels, {problem.g, problem.gradient.x, problem.dx});
  sm80::launch_bn_backward_apply(problem, vector);
}

void max_pool_backward(const MaxPool& forward, const void* dy, void* dx) {
  index32(forward.n * forward.h * forward.w * forward.c, "elements of the input's gradient");
  const bool vector = aligned_chunks(forward.dtype, forward.c, {dy, dx});
  sm80::launch_max_pool_backward(forward, dy, dx, vector);
}

void global_avg_pool_backward(const GlobalAvgPool& problem) {
  index32(problem.n, "batch");
  index32(problem.c, "channels");
  const bool vector = aligned_chunks(problem.dtype, problem.c, {problem.x, problem.y});
  sm80::launch_global_avg_pool_backward(problem, vector);
}

void max_pool(const MaxPool& problem) {
  index32(problem.n * problem.p() * problem.q() * problem.c, "elements of the pooled output");
  index32(problem.h + 2 * problem.pad_h, "padded height");
  index32(problem.w + 2 * problem.pad_w, "padded width");
  const bool vector = aligned_chunks(problem.dtype, problem.c, {problem.x, problem.y});
  sm80::launch_max_pool(problem, vector);
}

void global_avg_pool(const GlobalAvgPool& problem) {
  index32(problem.n, "batch");
  index32(problem.c, "channels");
  const bool vector = aligned_chunks(problem.dtype, problem.c, {problem.x, problem.y});
  sm80::launch_global_avg_pool(problem, vector);
}

}  // namespace rk
