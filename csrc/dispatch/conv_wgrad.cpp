// conv_wgrad and the reduction of statistics: problem -> configuration -> launches.
#include <optional>
#include <stdexcept>

#include "api.h"
#include "dispatch/choice.h"
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

ConvTask task_of(const ConvWgrad& problem) {
  return {.operation = Operation::wgrad,
          .dtype = problem.dtype,
          .tf32 = problem.dtype == DType::f32 && problem.tf32,
          .shape = problem.shape,
          .sm_count = machine::sm_count()};
}

ConvDemands demands_of(const ConvWgrad& problem) {
  return {.aligned_source = dispatch::aligned({problem.x, problem.dy}),
          .aligned_rest = true,
          .residual_view = false,
          .on_load = problem.normalise != nullptr ? OnLoad::one : OnLoad::nothing};
}

dispatch::WgradSplit portable_split(const ConvWgrad& problem, const dispatch::Configuration& configuration) {
  const ConvShape& shape = problem.shape;
  const int64_t tiles = dispatch::ceil_div(shape.k, configuration.rows) *
                        dispatch::ceil_div(shape.gemm_k(), configuration.columns);
  return dispatch::split_wgrad(tiles, shape.gemm_m(), configuration.blocks_per_sm, machine::sm_count());
}

// sm_90's plan, if that is the configuration.
std::optional<dispatch::WgradPlan> plan(const ConvWgrad& problem,
                                        const dispatch::Configuration& configuration) {
  if (!configuration.plans_wgrad()) return std::nullopt;
  return dispatch::choose_wgrad_plan(problem.shape, machine::sm_count());
}

void launch(const dispatch::WgradPlan& found, const ConvWgrad& problem) {
  const sm90::WgradGemm gemm = {.tile = found.traits.tile,
                                .conv = dispatch::fprop_geometry(problem.shape),
                                .x = problem.x,
                                .normalise = problem.normalise,
                                .dy = problem.dy,
                                .partials = problem.partials,
                                .pixels_per_split = static_cast<int32_t>(found.pixels_per_split),
                                .splits = static_cast<int32_t>(found.splits),
                                .stream = problem.stream};
  if (problem.dtype == DType::bf16) return sm90::launch_conv_wgrad_bf16(gemm);
  if (problem.dtype == DType::f16) return sm90::launch_conv_wgrad_f16(gemm);
  throw std::runtime_error("conv_wgrad: no plan for the dtype of " + describe(problem.shape));
}

void launch(const dispatch::WgradSplit& cut, const dispatch::Configuration& configuration,
            const ConvWgrad& problem) {
  const sm80::WgradGemm gemm = {.large_tile = configuration.sm80_tile() == sm80::ConvTile::t128x128,
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

int choose_configuration(const ConvWgrad& problem) {
  return dispatch::choose(task_of(problem), demands_of(problem), machine::compute_capability());
}

bool conv_wgrad_normalises_on_load(const ConvWgrad& problem) {
  if (!is_vector(problem)) return false;
  const std::optional<dispatch::WgradPlan> found = plan(problem, dispatch::configuration_of(problem));
  return !found || dispatch::why_not_normalised_on_load(problem.shape, *found) == nullptr;
}

int64_t conv_wgrad_splits(const ConvWgrad& problem) {
  const dispatch::Configuration& configuration = dispatch::configuration_of(problem);
  const std::optional<dispatch::WgradPlan> found = plan(problem, configuration);
  return found ? found->splits : portable_split(problem, configuration).splits;
}

void conv_wgrad(const ConvWgrad& problem) {
  const dispatch::Configuration& configuration = dispatch::configuration_of(problem);
  const std::optional<dispatch::WgradPlan> found = plan(problem, configuration);
  const dispatch::WgradSplit cut = found ? dispatch::WgradSplit{found->splits, found->pixels_per_split}
                                         : portable_split(problem, configuration);
  found ? launch(*found, problem) : launch(cut, configuration, problem);
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
