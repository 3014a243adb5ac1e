// conv_fprop: problem -> configuration -> launch.
#include <stdexcept>

#include "api.h"
#include "dispatch/choice.h"
#include "dispatch/problem.h"
#include "kernels/sm80/launchers.h"
#include "kernels/sm90/launchers.h"
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

tile::ConvGeometry geometry(const ConvFprop& problem) {
  return dispatch::fprop_geometry(problem.residual_view.channels == 0 ? simplify(problem.shape)
                                                                      : problem.shape);
}

// The output is the convolution's, as it is where it has moments.
bool ends_plainly(const ConvFprop& problem) {
  const Affine& affine = problem.affine;
  return affine.weight == nullptr && affine.bias == nullptr && affine.mean == nullptr &&
         problem.residual == nullptr && !problem.relu;
}

// sm_90's kernels make a of BatchNorm in training, before a convolution whose output has moments.
OnLoad on_load(const ConvFprop& problem) {
  if (problem.normalise == nullptr) return OnLoad::nothing;
  const Normalise& made = *problem.normalise;
  const bool norm = made.affine.mean != nullptr && made.affine.weight != nullptr &&
                    made.affine.bias != nullptr && made.affine.var == nullptr &&
                    made.residual_view.channels == 0;
  if (!norm || !ends_plainly(problem)) return OnLoad::other;
  return made.residual == nullptr ? OnLoad::one : OnLoad::two;
}

// What is made on load, and of what.
bool aligned_on_load(const ConvFprop& problem) {
  if (problem.normalise == nullptr) return true;
  const Normalise& made = *problem.normalise;
  return dispatch::aligned(
      {made.affine.mean, made.affine.weight, made.affine.bias, made.residual, problem.a});
}

void launch_sm80(const ConvFprop& problem, sm80::ConvTile tile, const tile::Epilogue& epilogue) {
  const sm80::ConvGemm gemm = {.tile = tile,
                               .vector_operands = dispatch::aligned_chunks(problem.dtype, problem.shape.c,
                                                                           {problem.x, problem.weight}),
                               .phases = 1,
                               .conv = {geometry(problem)},
                               .source = problem.x,
                               .normalise = problem.normalise,
                               .gradient = nullptr,
                               .transformed = problem.a,
                               .transformed_mask = problem.mask,
                               .weight = problem.weight,
                               .epilogue = epilogue,
                               .stream = problem.stream};
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_fprop_bf16(gemm);
    case DType::f16: return sm80::launch_conv_fprop_f16(gemm);
    case DType::f32:
      return problem.tf32 ? sm80::launch_conv_fprop_tf32(gemm) : sm80::launch_conv_fprop_f32(gemm);
  }
  throw std::runtime_error("conv_fprop: unknown dtype for " + describe(problem.shape));
}

void launch_sm90(const ConvFprop& problem, sm90::ConvTile tile, const tile::Epilogue& epilogue) {
  if (problem.partials != nullptr && !ends_plainly(problem))
    throw std::runtime_error("conv_fprop: sm_90 takes moments of nothing but the convolution");
  if (problem.normalise != nullptr && problem.partials == nullptr)
    throw std::runtime_error("conv_fprop: what sm_90 makes on load comes with moments of the output");
  const sm90::ConvGemm gemm = {.tile = tile,
                               .dtype = problem.dtype,
                               .phases = 1,
                               .conv = {geometry(problem)},
                               .source = problem.x,
                               .normalise = problem.normalise,
                               .gradient = nullptr,
                               .transformed = problem.a,
                               .transformed_mask = problem.mask,
                               .weight = problem.weight,
                               .taps = static_cast<int32_t>(problem.shape.r * problem.shape.s),
                               .epilogue = epilogue,
                               .stream = problem.stream};
  if (problem.dtype == DType::bf16) return sm90::launch_conv_fprop_bf16(gemm);
  if (problem.dtype == DType::f16) return sm90::launch_conv_fprop_f16(gemm);
  throw std::runtime_error("conv_fprop: no such dtype on sm_90 for " + describe(problem.shape));
}

}  // namespace

int choose_configuration(const ConvFprop& problem) {
  return dispatch::choose(
      {.operation = Operation::fprop,
       .dtype = problem.dtype,
       .tf32 = problem.dtype == DType::f32 && problem.tf32,
       .shape = problem.shape,
       .sm_count = machine::sm_count()},
      {.aligned_source = dispatch::aligned({problem.x, problem.weight}),
       .aligned_rest = dispatch::aligned({problem.residual, problem.y}) && aligned_on_load(problem),
       .residual_view = problem.residual_view.channels != 0,
       .on_load = on_load(problem)},
      machine::compute_capability());
}

RowTiles conv_fprop_row_tiles(const ConvFprop& problem) {
  const dispatch::Configuration& configuration = dispatch::configuration_of(problem);
  return {.tiles = dispatch::row_tiles(configuration, {geometry(problem)}), .tile_rows = configuration.rows};
}

bool conv_transforms_on_load(DType dtype, int64_t channels, std::initializer_list<const void*> sources) {
  return dispatch::aligned_chunks(dtype, channels, sources);
}

void conv_fprop(const ConvFprop& problem) {
  const dispatch::Configuration& configuration = dispatch::configuration_of(problem);
  const bool adds_on_load = problem.normalise != nullptr && problem.normalise->residual != nullptr;
  if (adds_on_load && problem.normalise->residual_view.channels != 0)
    throw std::runtime_error("conv_fprop: what is added on load is of the source's shape");
  if ((problem.a != nullptr || adds_on_load) && !conv_is_pointwise(problem.shape)) {
    throw std::runtime_error(
        "conv_fprop: only a pointwise convolution adds on load or writes what it loads: " +
        describe(problem.shape));
  }
  const tile::Epilogue epilogue = {
      .affine = problem.affine,
      .residual = problem.residual,
      .residual_view = problem.residual_view,
      .residual_mask = nullptr,
      .mask = nullptr,
      .y = problem.y,
      .relu = problem.relu,
      .vector = dispatch::aligned_view(problem.dtype, problem.residual_view) &&
                dispatch::aligned_chunks(problem.dtype, problem.shape.k, {problem.residual, problem.y}),
      .statistics = {.kind = problem.partials != nullptr ? tile::Statistics::Kind::moments
                                                         : tile::Statistics::Kind::none,
                     .partials = problem.partials,
                     .row_tiles = dispatch::row_tiles(configuration, {geometry(problem)}),
                     .bn_input = nullptr,
                     .bn = {},
                     .bn_relu = false}};
  if (configuration.kernels == dispatch::Kernels::sm90)
    return launch_sm90(problem, configuration.sm90_tile(), epilogue);
  launch_sm80(problem, configuration.sm80_tile(), epilogue);
}

}  // namespace rk
