// conv_dgrad: problem -> transposed weights, phases -> launches.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "api.h"
#include "dispatch/conv_tile_choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

struct Configuration {
  bool ffma;
  bool vector_operands;
  const dispatch::ConvTileTraits& tile;
};

Configuration configure(const ConvDgrad& problem) {
  const ConvShape& shape = problem.shape;
  const bool ffma = problem.dtype == DType::f32 && !problem.tf32;
  const bool vector = dispatch::aligned_chunks(problem.dtype, shape.k, {problem.dy, problem.transposed});
  return {
      ffma, vector,
      dispatch::choose_conv_tile(shape.n * shape.h * shape.w, shape.c, vector, ffma, machine::sm_count())};
}

int64_t row_tiles(const std::vector<tile::ConvGeometry>& phases, int64_t tile_rows) {
  int64_t tiles = 0;
  for (const tile::ConvGeometry& phase : phases) tiles += (phase.gemm_m() + tile_rows - 1) / tile_rows;
  return tiles;
}

void launch(const sm80::ConvGemm& gemm, DType dtype, bool ffma) {
  switch (dtype) {
    case DType::bf16: return sm80::launch_conv_dgrad_bf16(gemm);
    case DType::f16: return sm80::launch_conv_dgrad_f16(gemm);
    case DType::f32: return ffma ? sm80::launch_conv_dgrad_f32(gemm) : sm80::launch_conv_dgrad_tf32(gemm);
  }
  throw std::runtime_error("conv_dgrad: unknown dtype");
}

}  // namespace

int64_t conv_dgrad_row_tiles(const ConvDgrad& problem) {
  return row_tiles(dispatch::dgrad_geometry(problem.shape), configure(problem).tile.m);
}

void conv_dgrad(const ConvDgrad& problem) {
  const ConvShape& shape = problem.shape;
  const Configuration config = configure(problem);
  if (problem.gradient != nullptr && !conv_is_pointwise(shape))
    throw std::runtime_error(
        "conv_dgrad: only a pointwise convolution takes BatchNorm's gradient on load, not " +
        describe(shape));
  const std::vector<tile::ConvGeometry> phases = dispatch::dgrad_geometry(shape);
  sm80::launch_krsc_to_crsk(shape, problem.dtype, problem.weight, problem.transposed, problem.stream);

  const bool statistics = problem.partials != nullptr;
  sm80::ConvGemm gemm = {
      .tile = config.tile.tile,
      .vector_operands = config.vector_operands,
      .phases = 0,
      .conv = {},
      .source = problem.dy,
      .normalise = nullptr,
      .gradient = problem.gradient,
      .transformed = problem.gradient_out,
      .transformed_mask = nullptr,
      .weight = problem.transposed,
      .epilogue = {.affine = {},
                   .residual = problem.residual,
                   .residual_view = problem.residual_view,
                   .residual_mask = problem.residual_mask,
                   .mask = problem.mask,
                   .y = problem.dx,
                   .relu = false,
                   .vector = dispatch::aligned_view(problem.dtype, problem.residual_view) &&
                             dispatch::aligned_chunks(problem.dtype, shape.c,
                                                      {problem.residual, problem.dx, problem.bn_input}),
                   .statistics = {.kind = statistics ? tile::Statistics::Kind::gradient
                                                     : tile::Statistics::Kind::none,
                                  .partials = problem.partials,
                                  .row_tiles = 0,
                                  .bn_input = problem.bn_input,
                                  .bn = problem.bn,
                                  .bn_relu = problem.bn_relu}},
      .stream = problem.stream};
  for (size_t first = 0; first < phases.size(); first += sm80::kDgradPhasesPerLaunch) {
    const size_t last = std::min(phases.size(), first + sm80::kDgradPhasesPerLaunch);
    const std::vector<tile::ConvGeometry> launched(phases.begin() + first, phases.begin() + last);
    gemm.phases = static_cast<int>(launched.size());
    std::copy(launched.begin(), launched.end(), gemm.conv);
    gemm.epilogue.statistics.row_tiles = row_tiles(launched, config.tile.m);
    launch(gemm, problem.dtype, config.ffma);
    if (statistics)
      gemm.epilogue.statistics.partials += gemm.epilogue.statistics.row_tiles * kSumsPerTile * shape.c;
  }
}

}  // namespace rk
