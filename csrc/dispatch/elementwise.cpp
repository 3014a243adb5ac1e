// BatchNorm, pooling, padding and the stem: problem -> launch.
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

void stem_fprop(const Stem& problem) {
  const ConvShape& shape = problem.shape;
  const tile::ConvGeometry conv = dispatch::fprop_geometry(shape);
  const bool copied_by_tma = shape.pad_h == 3 && shape.pad_w == 3 &&
                             aligned_chunks(problem.dtype, shape.w * shape.c, {problem.x}) &&
                             aligned_chunks(problem.dtype, shape.k, {problem.y});
  if (machine::compute_capability() == 90 && copied_by_tma) return sm90::launch_stem_fprop(problem);
  sm80::launch_stem_fprop(conv, problem);
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
