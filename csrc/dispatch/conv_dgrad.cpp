// conv_dgrad: problem -> transposed weights, phases -> launches.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "api.h"
#include "dispatch/choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

using Phases = std::vector<tile::ConvGeometry>;

// sm_90's kernels take the gradient of BatchNorm with batch statistics, which has a second source.
OnLoad on_load(const ConvDgrad& problem) {
  if (problem.gradient == nullptr) return OnLoad::nothing;
  return problem.gradient->x != nullptr ? OnLoad::two : OnLoad::other;
}

bool aligned_on_load(const ConvDgrad& problem) {
  if (problem.gradient == nullptr) return true;
  return dispatch::aligned({problem.gradient->x, problem.gradient->coefficients, problem.gradient_out});
}

void launch_sm80(const ConvDgrad& problem, const dispatch::Configuration& configuration, const Phases& phases,
                 const tile::Epilogue& epilogue) {
  sm80::ConvGemm gemm = {.tile = configuration.sm80_tile(),
                         .vector_operands = dispatch::aligned_chunks(problem.dtype, problem.shape.k,
                                                                     {problem.dy, problem.transposed}),
                         .phases = static_cast<int>(phases.size()),
                         .conv = {},
                         .source = problem.dy,
                         .normalise = nullptr,
                         .gradient = problem.gradient,
                         .transformed = problem.gradient_out,
                         .transformed_mask = nullptr,
                         .weight = problem.transposed,
                         .epilogue = epilogue,
                         .stream = problem.stream};
  std::copy(phases.begin(), phases.end(), gemm.conv);
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_dgrad_bf16(gemm);
    case DType::f16: return sm80::launch_conv_dgrad_f16(gemm);
    case DType::f32:
      return problem.tf32 ? sm80::launch_conv_dgrad_tf32(gemm) : sm80::launch_conv_dgrad_f32(gemm);
  }
  throw std::runtime_error("conv_dgrad: unknown dtype for " + describe(problem.shape));
}

void launch_sm90(const ConvDgrad& problem, const dispatch::Configuration& configuration, const Phases& phases,
                 const tile::Epilogue& epilogue) {
  sm90::ConvGemm gemm = {.tile = configuration.sm90_tile(),
                         .dtype = problem.dtype,
                         .phases = static_cast<int>(phases.size()),
                         .conv = {},
                         .source = problem.dy,
                         .normalise = nullptr,
                         .gradient = problem.gradient,
                         .transformed = problem.gradient_out,
                         .transformed_mask = nullptr,
                         .weight = problem.weight,
                         .taps = static_cast<int32_t>(problem.shape.r * problem.shape.s),
                         .epilogue = epilogue,
                         .stream = problem.stream};
  std::copy(phases.begin(), phases.end(), gemm.conv);
  if (problem.dtype == DType::bf16) return sm90::launch_conv_dgrad_bf16(gemm);
  if (problem.dtype == DType::f16) return sm90::launch_conv_dgrad_f16(gemm);
  throw std::runtime_error("conv_dgrad: no such dtype on sm_90 for " + describe(problem.shape));
}

}  // namespace

int choose_configuration(const ConvDgrad& problem) {
  return dispatch::choose(
      {.operation = Operation::dgrad,
       .dtype = problem.dtype,
       .tf32 = problem.dtype == DType::f32 && problem.tf32,
       .shape = problem.shape,
       .sm_count = machine::sm_count()},
      {.aligned_source = dispatch::aligned({problem.dy, problem.transposed}),
       .aligned_rest = dispatch::aligned({problem.weight, problem.residual, problem.dx, problem.bn_input}) &&
                       aligned_on_load(problem),
       .residual_view = problem.residual_view.channels != 0,
       .on_load = on_load(problem)},
      machine::compute_capability());
}

int64_t conv_dgrad_row_tiles(const ConvDgrad& problem) {
  return dispatch::row_tiles(dispatch::configuration_of(problem), dispatch::dgrad_geometry(problem.shape));
}

bool conv_dgrad_transposes(const ConvDgrad& problem) {
  return dispatch::configuration_of(problem).kernels == dispatch::Kernels::sm80;
}

void conv_dgrad(const ConvDgrad& problem) {
  const ConvShape& shape = problem.shape;
  const dispatch::Configuration& configuration = dispatch::configuration_of(problem);
  if (problem.gradient != nullptr && !conv_is_pointwise(shape))
    throw std::runtime_error(
        "conv_dgrad: only a pointwise convolution takes BatchNorm's gradient on load, not " +
        describe(shape));
  const bool statistics = problem.partials != nullptr;
  tile::Epilogue epilogue = {
      .affine = {},
      .residual = problem.residual,
      .residual_view = problem.residual_view,
      .residual_mask = problem.residual_mask,
      .mask = problem.mask,
      .y = problem.dx,
      .relu = false,
      .vector =
          dispatch::aligned_view(problem.dtype, problem.residual_view) &&
          dispatch::aligned_chunks(problem.dtype, shape.c, {problem.residual, problem.dx, problem.bn_input}),
      .statistics = {.kind = statistics ? tile::Statistics::Kind::gradient : tile::Statistics::Kind::none,
                     .partials = problem.partials,
                     .row_tiles = 0,
                     .bn_input = problem.bn_input,
                     .bn = problem.bn,
                     .bn_relu = problem.bn_relu}};
  const Phases phases = dispatch::dgrad_geometry(shape);
  if (configuration.kernels == dispatch::Kernels::sm90) {
    epilogue.statistics.row_tiles = dispatch::row_tiles(configuration, phases);
    return launch_sm90(problem, configuration, phases, epilogue);
  }
  sm80::launch_krsc_to_crsk(shape, problem.dtype, problem.weight, problem.transposed, problem.stream);
  for (size_t first = 0; first < phases.size(); first += sm80::kDgradPhasesPerLaunch) {
    const size_t last = std::min(phases.size(), first + sm80::kDgradPhasesPerLaunch);
    const Phases launched(phases.begin() + first, phases.begin() + last);
    epilogue.statistics.row_tiles = dispatch::row_tiles(configuration, launched);
    launch_sm80(problem, configuration, launched, epilogue);
    if (statistics) epilogue.statistics.partials += epilogue.statistics.row_tiles * kSumsPerTile * shape.c;
  }
}

}  // namespace rk
