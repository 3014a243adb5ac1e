// conv_fprop: problem -> configuration -> launch.
#include <stdexcept>

#include "api.h"
#include "dispatch/conv_tile_choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

// A convolution with one tap, no padding and unit stride is a matrix product over pixels, whatever the image.
ConvShape simplify(const ConvShape& shape) {
  if (!conv_is_pointwise(shape)) return shape;
  ConvShape product = shape;
  product.n = shape.n * shape.h * shape.w;
  product.h = product.w = product.dilation_h = product.dilation_w = 1;
  return product;
}

struct Configuration {
  bool ffma;
  bool vector_operands;
  const dispatch::ConvTileTraits& tile;
};

Configuration configure(const ConvFprop& problem) {
  const ConvShape& shape = problem.shape;
  const bool ffma = problem.dtype == DType::f32 && !problem.tf32;
  const bool vector = dispatch::aligned_chunks(problem.dtype, shape.c, {problem.x, problem.weight});
  return {ffma, vector,
          dispatch::choose_conv_tile(shape.gemm_m(), shape.k, vector, ffma, machine::sm_count())};
}

}  // namespace

RowTiles conv_fprop_row_tiles(const ConvFprop& problem) {
  const int64_t rows = configure(problem).tile.m;
  return {.tiles = (problem.shape.gemm_m() + rows - 1) / rows, .tile_rows = rows};
}

bool conv_transforms_on_load(DType dtype, int64_t channels, std::initializer_list<const void*> sources) {
  return dispatch::aligned_chunks(dtype, channels, sources);
}

void conv_fprop(const ConvFprop& problem) {
  const Configuration config = configure(problem);
  const bool adds_on_load = problem.normalise != nullptr && problem.normalise->residual != nullptr;
  if (adds_on_load && problem.normalise->residual_view.channels != 0)
    throw std::runtime_error("conv_fprop: what is added on load is of the source's shape");
  if ((problem.a != nullptr || adds_on_load) && !conv_is_pointwise(problem.shape)) {
    throw std::runtime_error(
        "conv_fprop: only a pointwise convolution adds on load or writes what it loads: " +
        describe(problem.shape));
  }
  const bool vector_epilogue =
      dispatch::aligned_view(problem.dtype, problem.residual_view) &&
      dispatch::aligned_chunks(problem.dtype, problem.shape.k, {problem.residual, problem.y});
  const tile::Statistics statistics = {
      .kind = problem.partials != nullptr ? tile::Statistics::Kind::moments : tile::Statistics::Kind::none,
      .partials = problem.partials,
      .row_tiles = conv_fprop_row_tiles(problem).tiles,
      .bn_input = nullptr,
      .bn = {},
      .bn_relu = false};
  const sm80::ConvGemm gemm = {
      .tile = config.tile.tile,
      .vector_operands = config.vector_operands,
      .phases = 1,
      .conv = {dispatch::fprop_geometry(problem.residual_view.channels == 0 ? simplify(problem.shape)
                                                                            : problem.shape)},
      .source = problem.x,
      .normalise = problem.normalise,
      .gradient = nullptr,
      .transformed = problem.a,
      .transformed_mask = problem.mask,
      .weight = problem.weight,
      .epilogue = {.affine = problem.affine,
                   .residual = problem.residual,
                   .residual_view = problem.residual_view,
                   .residual_mask = nullptr,
                   .mask = nullptr,
                   .y = problem.y,
                   .relu = problem.relu,
                   .vector = vector_epilogue,
                   .statistics = statistics},
      .stream = problem.stream};
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_fprop_bf16(gemm);
    case DType::f16: return sm80::launch_conv_fprop_f16(gemm);
    case DType::f32:
      return config.ffma ? sm80::launch_conv_fprop_f32(gemm) : sm80::launch_conv_fprop_tf32(gemm);
  }
  throw std::runtime_error("conv_fprop: unknown dtype for " + describe(problem.shape));
}

}  // namespace rk
