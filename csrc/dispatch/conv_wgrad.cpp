// conv_wgrad and the reduction of statistics: problem -> configuration -> launches.
#include <stdexcept>

#include "api.h"
#include "dispatch/conv_tile_choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

bool is_vector(const ConvWgrad& problem) {
  return dispatch::aligned_chunks(problem.dtype, problem.shape.c, {problem.x}) &&
         dispatch::aligned_chunks(problem.dtype, problem.shape.k, {problem.dy});
}

dispatch::WgradSplit split(const ConvWgrad& problem) {
  const ConvShape& shape = problem.shape;
  return dispatch::choose_wgrad_split(shape.k, shape.gemm_k(), shape.gemm_m(), is_vector(problem),
                                      machine::sm_count());
}

void launch(const sm80::WgradGemm& gemm, const ConvWgrad& problem) {
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_wgrad_bf16(gemm);
    case DType::f16: return sm80::launch_conv_wgrad_f16(gemm);
    case DType::f32:
      return problem.tf32 ? sm80::launch_conv_wgrad_tf32(gemm) : sm80::launch_conv_wgrad_f32(gemm);
  }
  throw std::runtime_error("conv_wgrad: unknown dtype for " + describe(problem.shape));
}

}  // namespace

int64_t conv_wgrad_splits(const ConvWgrad& problem) { return split(problem).splits; }

void conv_wgrad(const ConvWgrad& problem) {
  const dispatch::WgradSplit cut = split(problem);
  launch({.large_tile = cut.large_tile,
          .vector = is_vector(problem),
          .conv = dispatch::fprop_geometry(problem.shape),
          .x = problem.x,
          .normalise = problem.normalise,
          .dy = problem.dy,
          .partials = problem.partials,
          .pixels_per_split = static_cast<int32_t>(cut.pixels_per_split),
          .splits = static_cast<int32_t>(cut.splits),
          .stream = problem.stream},
         problem);
  const ConvShape& shape = problem.shape;
  sm80::launch_reduce_splits({.partials = problem.partials,
                              .splits = cut.splits,
                              .rows = shape.k * shape.r * shape.s,
                              .padded = shape.c,
                              .channels = problem.dw_channels,
                              .dtype = problem.dtype,
                              .dw = problem.dw,
                              .stream = problem.stream});
}

void reduce_statistics(const StatisticsReduction& problem) { sm80::launch_reduce_statistics(problem); }

}  // namespace rk
