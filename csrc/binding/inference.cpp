// The operators of resnet_kernels/ops.py.
#include "binding/pooling.h"
#include "binding/tensors.h"

namespace rk::binding {
namespace {

Tensor conv_fprop(const Tensor& x, const Tensor& weight, const OptionalTensor& scale,
                  const OptionalTensor& shift, const OptionalTensor& mean, const OptionalTensor& var,
                  double eps, const OptionalTensor& residual, const Ints& stride, const Ints& padding,
                  const Ints& dilation, bool relu, bool tf32, const Ints& residual_stride) {
  constexpr const char* kOp = "conv_fprop";
  const rk::ConvShape shape = conv_shape(x, weight, stride, padding, dilation, kOp);
  const OnDeviceOf guard(x);
  if (rk::pads_channels(shape, dtype_of(x, kOp))) {
    return conv_fprop(pad_channels(x, kOp), pad_channels(weight, kOp), scale, shift, mean, var, eps, residual,
                      stride, padding, dilation, relu, tf32, residual_stride);
  }
  Tensor y = empty_activation(x, shape.n, shape.k, shape.p(), shape.q());
  const ResidualView view = residual_view(y, residual, residual_stride, false, kOp);
  if (y.numel() == 0) return y;
  rk::conv_fprop({.shape = shape,
                  .dtype = dtype_of(x, kOp),
                  .tf32 = tf32,
                  .relu = relu,
                  .affine = affine(x, shape.k, scale, shift, mean, var, eps, kOp),
                  .x = x.const_data_ptr(),
                  .weight = weight.const_data_ptr(),
                  .residual = pointer(residual),
                  .residual_view = view,
                  .y = y.mutable_data_ptr(),
                  .partials = nullptr,
                  .stream = current_stream(x),
                  .normalise = nullptr,
                  .a = nullptr,
                  .mask = nullptr});
  return y;
}

Tensor max_pool(const Tensor& x, const Ints& kernel, const Ints& stride, const Ints& padding) {
  rk::MaxPool problem = pooling(x, x.size(2), x.size(3), kernel, stride, padding, "max_pool");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation(x, problem.n, problem.c, problem.p(), problem.q());
  if (y.numel() == 0) return y;
  problem.x = x.const_data_ptr();
  problem.y = y.mutable_data_ptr();
  rk::max_pool(problem);
  return y;
}

Tensor conv_bn_relu_maxpool(const Tensor& x, const Tensor& weight, const OptionalTensor& scale,
                            const OptionalTensor& shift, const OptionalTensor& mean,
                            const OptionalTensor& var, double eps, const Ints& stride, const Ints& padding,
                            const Ints& dilation, bool tf32) {
  constexpr const char* kOp = "conv_bn_relu_maxpool";
  const rk::ConvShape shape = conv_shape(x, weight, stride, padding, dilation, kOp);
  const rk::DType dtype = dtype_of(x, kOp);
  if (!rk::stem_is_fused(shape, dtype)) {
    const Tensor conv = conv_fprop(x, weight, scale, shift, mean, var, eps, std::nullopt, stride, padding,
                                   dilation, true, tf32, {1, 1});
    return max_pool(conv, {3, 3}, {2, 2}, {1, 1});
  }
  const OnDeviceOf guard(x);
  Tensor y = empty_activation(x, shape.n, shape.k, (shape.p() + 1) / 2, (shape.q() + 1) / 2);
  if (y.numel() == 0) return y;
  rk::stem_fprop({.shape = shape,
                  .dtype = dtype,
                  .affine = affine(x, shape.k, scale, shift, mean, var, eps, kOp),
                  .x = x.const_data_ptr(),
                  .weight = weight.const_data_ptr(),
                  .y = y.mutable_data_ptr(),
                  .stream = current_stream(x)});
  return y;
}

Tensor bn_apply(const Tensor& x, const OptionalTensor& scale, const OptionalTensor& shift,
                const OptionalTensor& mean, const OptionalTensor& var, double eps,
                const OptionalTensor& residual, bool relu) {
  constexpr const char* kOp = "bn_apply";
  check_activation(x, kOp, "x");
  check_like(x, residual, kOp, "residual");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation_like(x);
  if (y.numel() == 0) return y;
  rk::bn_apply({.n = x.size(0),
                .h = x.size(2),
                .w = x.size(3),
                .channels = x.size(1),
                .dtype = dtype_of(x, kOp),
                .x = x.const_data_ptr(),
                .normalise = {.affine = affine(x, x.size(1), scale, shift, mean, var, eps, kOp),
                              .residual = pointer(residual),
                              .residual_view = {},
                              .residual_affine = {},
                              .relu = relu},
                .y = y.mutable_data_ptr(),
                .mask = nullptr,
                .stream = current_stream(x)});
  return y;
}

Tensor global_avg_pool(const Tensor& x) {
  constexpr const char* kOp = "global_avg_pool";
  check_activation(x, kOp, "x");
  STD_TORCH_CHECK(x.size(2) * x.size(3) > 0, kOp, ": x has no pixels");
  const OnDeviceOf guard(x);
  Tensor y = torch::stable::empty({x.size(0), x.size(1)}, x.scalar_type(), std::nullopt, x.device());
  if (y.numel() == 0) return y;
  rk::global_avg_pool({.n = x.size(0),
                       .pixels = x.size(2) * x.size(3),
                       .c = x.size(1),
                       .dtype = dtype_of(x, kOp),
                       .x = x.const_data_ptr(),
                       .y = y.mutable_data_ptr(),
                       .stream = current_stream(x)});
  return y;
}

// A fully connected layer is a 1x1 convolution of 1x1 images.
Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, bool tf32) {
  constexpr const char* kOp = "linear";
  STD_TORCH_CHECK(is_matrix(x), kOp, ": x must be a dense matrix [N, C]");
  STD_TORCH_CHECK(is_matrix(weight) && weight.size(1) == x.size(1), kOp,
                  ": weight must be a dense matrix [K, C]");
  check_same(x, weight, kOp, "weight");
  const OnDeviceOf guard(x);
  const int64_t n = x.size(0), c = x.size(1), k = weight.size(0);
  Tensor y = torch::stable::empty({n, k}, x.scalar_type(), std::nullopt, x.device());
  if (y.numel() == 0) return y;
  rk::conv_fprop({.shape = {.n = n,
                            .h = 1,
                            .w = 1,
                            .c = c,
                            .k = k,
                            .r = 1,
                            .s = 1,
                            .stride_h = 1,
                            .stride_w = 1,
                            .pad_h = 0,
                            .pad_w = 0,
                            .dilation_h = 1,
                            .dilation_w = 1},
                  .dtype = dtype_of(x, kOp),
                  .tf32 = tf32,
                  .relu = false,
                  .affine = affine(x, k, std::nullopt, bias, std::nullopt, std::nullopt, 0, kOp),
                  .x = x.const_data_ptr(),
                  .weight = weight.const_data_ptr(),
                  .residual = nullptr,
                  .residual_view = {},
                  .y = y.mutable_data_ptr(),
                  .partials = nullptr,
                  .stream = current_stream(x),
                  .normalise = nullptr,
                  .a = nullptr,
                  .mask = nullptr});
  return y;
}

RK_LIBRARY_IMPL(RK_NAMESPACE, RK_DISPATCH_KEY, m) {
  m.impl("conv_fprop", TORCH_BOX(&conv_fprop));
  m.impl("conv_bn_relu_maxpool", TORCH_BOX(&conv_bn_relu_maxpool));
  m.impl("bn_apply", TORCH_BOX(&bn_apply));
  m.impl("max_pool", TORCH_BOX(&max_pool));
  m.impl("global_avg_pool", TORCH_BOX(&global_avg_pool));
  m.impl("linear", TORCH_BOX(&linear));
}

}  // namespace
}  // namespace rk::binding
