// conv_wgrad and the reduction of statistics: problem -> configuration -> launches.
#include <optional>
#include <stdexcept>

#include "api.h"
#include "dispatch/conv_tile_choice.h"
#include "dispatch/conv_wgrad_choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

bool is_vector(const ConvWgrad& problem) {
  return dispatch::aligned_chunks(problem.dtype, problem.shape.c, {problem.x}) &&
         dispatch::aligned_chunks(problem.dtype, problem.shape.k, {problem.dy});
}

dispatch::WgradSplit portable_split(const ConvWgrad& problem) {
  const ConvShape& shape = problem.shape;
  return dispatch::choose_wgrad_split(shape.k, shape.gemm_k(), shape.gemm_m(), is_vector(problem),
                                      machine::sm_count());
}

// sm_90's plan if its kernel can run the problem and is estimated to be no slower than the portable one.
std::optional<dispatch::WgradPlan> plan(const ConvWgrad& problem) {
  const ConvShape& shape = problem.shape;
  if (machine::compute_capability() != 90 || problem.normalise != nullptr ||
      !dispatch::wgrad_tma_covers(problem.dtype, is_vector(problem), conv_is_pointwise(shape),
                                  dispatch::fprop_geometry(shape))) {
    return std::nullopt;
  }
  const int64_t chunks = shape.r * shape.s * dispatch::ceil_div(shape.c, 64);
  const int64_t sm_count = machine::sm_count();
  const dispatch::WgradPlan found =
      dispatch::choose_wgrad_plan(shape.k, chunks, shape.gemm_k(), shape.gemm_m(), sm_count);
  const int64_t portable =
      dispatch::portable_wgrad_clocks(portable_split(problem), shape.k, shape.gemm_k(), sm_count);
  return found.clocks <= portable ? std::optional(found) : std::nullopt;
}

void launch(const dispatch::WgradPlan& found, const ConvWgrad& problem) {
  const sm90::WgradGemm gemm = {.tile = found.traits.tile,
                                .pointwise = conv_is_pointwise(problem.shape),
                                .conv = dispatch::fprop_geometry(problem.shape),
                                .x = problem.x,
                                .dy = problem.dy,
                                .partials = problem.partials,
                                .pixels_per_split = static_cast<int32_t>(found.pixels_per_split),
                                .splits = static_cast<int32_t>(found.splits),
                                .stream = problem.stream};
  if (problem.dtype == DType::bf16) return sm90::launch_conv_wgrad_bf16(gemm);
  if (problem.dtype == DType::f16) return sm90::launch_conv_wgrad_f16(gemm);
  throw std::runtime_error("conv_wgrad: no plan for the dtype of " + describe(problem.shape));
}

void launch(const dispatch::WgradSplit& cut, const ConvWgrad& problem) {
  const sm80::WgradGemm gemm = {.large_tile = cut.large_tile,
                                .vector = is_vector(problem),
                                .conv = dispatch::fprop_geometry(problem.shape),
                                .x = problem.x,
                                .normalise = problem.normalise,
                                .dy = problem.dy,
                                .partials = problem.partials,
                                .pixels_per_split = static_cast<int32_t>(cut.pixels_per_split),
                                .splits = static_cast<int32_t>(cut.splits),
                                .stream = problem.stream};
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_wgrad_bf16(gemm);
    case DType::f16: return sm80::launch_conv_wgrad_f16(gemm);
    case DType::f32:
      return problem.tf32 ? sm80::launch_conv_wgrad_tf32(gemm) : sm80::launch_conv_wgrad_f32(gemm);
  }
  throw std::runtime_error("conv_wgrad: unknown dtype for " + describe(problem.shape));
}

}  // namespace

int64_t conv_wgrad_splits(const ConvWgrad& problem) {
  const std::optional<dispatch::WgradPlan> found = plan(problem);
  return found ? found->splits : portable_split(problem).splits;
}

void conv_wgrad(const ConvWgrad& problem) {
  const std::optional<dispatch::WgradPlan> found = plan(problem);
  const dispatch::WgradSplit cut = portable_split(problem);
  found ? launch(*found, problem) : launch(cut, problem);
  const ConvShape& shape = problem.shape;
  sm80::launch_reduce_splits({.partials = problem.partials,
                              .splits = found ? found->splits : cut.splits,
                              .rows = shape.k * shape.r * shape.s,
                              .padded = shape.c,
                              .channels = problem.dw_channels,
                              .dtype = problem.dtype,
                              .dw = problem.dw,
                              .stream = problem.stream});
}

void reduce_statistics(const StatisticsReduction& problem) { sm80::launch_reduce_statistics(problem); }

}  // namespace rk
