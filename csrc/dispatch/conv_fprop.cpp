// conv_fprop: problem -> configuration -> launch.
#include "dispatch/conv_fprop.h"

#include <limits>
#include <stdexcept>

#include "dispatch/problem.h"
#include "machine/device.h"

namespace rk {
namespace {

using sm80::FpropConfig;

// Convolution with one tap, no padding and unit stride: rows of pixels, whatever the image.
ConvShape as_matrix_product(const ConvShape& shape) {
  return {.n = shape.n * shape.h * shape.w,
          .h = 1,
          .w = 1,
          .c = shape.c,
          .k = shape.k,
          .r = 1,
          .s = 1,
          .stride_h = 1,
          .stride_w = 1,
          .pad_h = 0,
          .pad_w = 0,
          .dilation_h = 1,
          .dilation_w = 1};
}

bool is_pointwise(const ConvShape& shape) {
  return shape.r == 1 && shape.s == 1 && shape.stride_h == 1 && shape.stride_w == 1 && shape.pad_h == 0 &&
         shape.pad_w == 0;
}

}  // namespace

void conv_fprop(const ConvFprop& problem) {
  const ConvShape& given = problem.shape;
  const ConvShape shape = is_pointwise(given) ? as_matrix_product(given) : given;
  const tile::ConvGeometry conv = dispatch::fprop_geometry(shape);
  const bool vector_operands =
      dispatch::aligned_chunks(problem.dtype, shape.c, {problem.x, problem.weight});
  const bool vector_epilogue = dispatch::aligned_chunks(problem.dtype, shape.k, {problem.residual, problem.y});
  const bool ffma = problem.dtype == DType::f32 && !problem.tf32;
  const FpropConfig config = {.tile = dispatch::choose_fprop_tile(shape, vector_operands, ffma, machine::sm_count()),
                              .vector_operands = vector_operands,
                              .vector_epilogue = vector_epilogue};
  switch (problem.dtype) {
    case DType::bf16: return sm80::launch_conv_fprop_bf16(config, conv, problem);
    case DType::f16: return sm80::launch_conv_fprop_f16(config, conv, problem);
    case DType::f32:
      return ffma ? sm80::launch_conv_fprop_f32(config, conv, problem)
                  : sm80::launch_conv_fprop_tf32(config, conv, problem);
  }
  throw std::runtime_error("conv_fprop: unknown dtype for " + describe(given));
}

}  // namespace rk
