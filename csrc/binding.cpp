// PyTorch operators over api.h: the only file that includes torch, compiled once per machine through
// LibTorch's stable ABI.
//
// Tensors were checked in Python (resnet_kernels/ops.py); what is checked again here protects memory when an
// operator is called directly: layout, device, dtype and sizes that pointers depend on. Schemas are in
// resnet_kernels/_register.py.
#include <Python.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "api.h"

namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

// The caller's stream. The shim lives in libtorch_cuda, which a CPU build of torch lacks and which must not
// become a dependency of this file: it is looked up among the libraries that torch has already loaded.
rk::Stream current_stream(const Tensor& tensor) {
  if (!tensor.is_cuda()) return nullptr;
  using CurrentStream = AOTITorchError (*)(int32_t, void**);
  static const auto get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return library == nullptr
               ? nullptr
               : reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  }();
  STD_TORCH_CHECK(
      get != nullptr,
      "resnet_kernels: this PyTorch has no CUDA stream shim; install a CUDA build of torch >= 2.10");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get(tensor.get_device_index(), &stream));
  return stream;
}

// Kernels run on the device of their tensors, whatever device is current.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) {
    if (tensor.is_cuda()) guard_.emplace(tensor.get_device_index());
  }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
};

rk::DType dtype_of(const Tensor& tensor, const char* op) {
  switch (tensor.scalar_type()) {
    case ScalarType::BFloat16: return rk::DType::bf16;
    case ScalarType::Half: return rk::DType::f16;
    case ScalarType::Float: return rk::DType::f32;
    default: STD_TORCH_CHECK(false, op, ": dtype must be bfloat16, float16 or float32");
  }
}

// Strides of a dense NHWC tensor of logical shape NCHW; strides of dimensions of size 1, and of an empty
// tensor, mean nothing.
bool is_channels_last(const Tensor& t) {
  if (t.dim() != 4) return false;
  if (t.numel() == 0) return true;
  const auto fits = [&](int64_t dim, int64_t stride) { return t.size(dim) == 1 || t.stride(dim) == stride; };
  return fits(1, 1) && fits(3, t.size(1)) && fits(2, t.size(1) * t.size(3)) &&
         fits(0, t.size(1) * t.size(2) * t.size(3));
}

bool is_matrix(const Tensor& t) {
  if (t.dim() != 2) return false;
  if (t.numel() == 0) return true;
  return (t.size(1) == 1 || t.stride(1) == 1) && (t.size(0) == 1 || t.stride(0) == t.size(1));
}

void check_same(const Tensor& x, const Tensor& other, const char* op, const char* name) {
  STD_TORCH_CHECK(other.device() == x.device(), op, ": ", name, " is on another device than x");
  STD_TORCH_CHECK(other.scalar_type() == x.scalar_type(), op, ": ", name, " has another dtype than x");
}

void check_activation(const Tensor& x, const char* op, const char* name) {
  STD_TORCH_CHECK(is_channels_last(x), op, ": ", name, " must be dense channels_last [N, C, H, W]");
}

const float* vector_pointer(const OptionalTensor& vector, const Tensor& x, int64_t channels, const char* op,
                            const char* name) {
  if (!vector) return nullptr;
  STD_TORCH_CHECK(vector->scalar_type() == ScalarType::Float && vector->dim() == 1 &&
                      vector->size(0) == channels && (channels == 1 || vector->stride(0) == 1) &&
                      vector->device() == x.device(),
                  op, ": ", name, " must be a dense float32 vector of ", channels, " elements on x's device");
  return vector->const_data_ptr<float>();
}

rk::Affine affine(const Tensor& x, int64_t channels, const OptionalTensor& scale, const OptionalTensor& shift,
                  const OptionalTensor& mean, const OptionalTensor& var, double eps, const char* op) {
  STD_TORCH_CHECK(mean.has_value() == var.has_value(), op, ": mean and var come together");
  return {.weight = vector_pointer(scale, x, channels, op, "scale"),
          .bias = vector_pointer(shift, x, channels, op, "shift"),
          .mean = vector_pointer(mean, x, channels, op, "mean"),
          .var = vector_pointer(var, x, channels, op, "var"),
          .eps = static_cast<float>(eps)};
}

void check_pair(const Ints& pair, int64_t least, const char* op, const char* name) {
  STD_TORCH_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least, op, ": ", name,
                  " must be two integers of at least ", least);
}

Tensor empty_activation(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  return torch::stable::empty({n, c, h, w}, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              MemoryFormat::ChannelsLast);
}

Tensor empty_floats(const Tensor& like, const Ints& sizes) {
  return torch::stable::empty(sizes, ScalarType::Float, std::nullopt, like.device());
}

// An optional tensor of the same layout, shape, dtype and device as `like`.
void check_like(const Tensor& like, const OptionalTensor& other, const char* op, const char* name) {
  if (!other) return;
  check_activation(*other, op, name);
  check_same(like, *other, op, name);
  for (int64_t dim = 0; dim < 4; ++dim) {
    STD_TORCH_CHECK(other->size(dim) == like.size(dim), op, ": ", name, " must have the output's shape");
  }
}

// ReLU's mask: int32 [N, H, W, ceil(C / 32)], bit = channel.
void check_mask(const Tensor& like, const OptionalTensor& mask, const char* op) {
  if (!mask) return;
  STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Int && mask->is_contiguous() && mask->dim() == 4 &&
                      mask->device() == like.device() && mask->size(0) == like.size(0) &&
                      mask->size(1) == like.size(2) && mask->size(2) == like.size(3) &&
                      mask->size(3) == (like.size(1) + 31) / 32,
                  op, ": mask must be a contiguous int32 [N, H, W, ceil(C / 32)]");
}

rk::ConvShape conv_shape(const Tensor& x, const Tensor& weight, const Ints& stride, const Ints& padding,
                         const Ints& dilation, const char* op) {
  check_activation(x, op, "x");
  STD_TORCH_CHECK(is_channels_last(weight), op, ": weight must be dense channels_last [K, C, R, S]");
  check_same(x, weight, op, "weight");
  STD_TORCH_CHECK(weight.size(1) == x.size(1), op, ": weight has ", weight.size(1), " channels and x has ",
                  x.size(1));
  check_pair(stride, 1, op, "stride");
  check_pair(padding, 0, op, "padding");
  check_pair(dilation, 1, op, "dilation");
  const rk::ConvShape shape = {.n = x.size(0),
                               .h = x.size(2),
                               .w = x.size(3),
                               .c = x.size(1),
                               .k = weight.size(0),
                               .r = weight.size(2),
                               .s = weight.size(3),
                               .stride_h = stride[0],
                               .stride_w = stride[1],
                               .pad_h = padding[0],
                               .pad_w = padding[1],
                               .dilation_h = dilation[0],
                               .dilation_w = dilation[1]};
  STD_TORCH_CHECK(shape.h + 2 * shape.pad_h > shape.dilation_h * (shape.r - 1) &&
                      shape.w + 2 * shape.pad_w > shape.dilation_w * (shape.s - 1),
                  op, ": the filter is larger than the padded image: ", rk::describe(shape));
  return shape;
}

// A dense channels_last tensor with its channels padded by zeros to a 16-byte chunk.
Tensor pad_channels(const Tensor& t, const char* op) {
  const rk::DType dtype = dtype_of(t, op);
  Tensor padded = empty_activation(t, t.size(0), rk::chunk_elements(dtype), t.size(2), t.size(3));
  if (t.numel() == 0) return padded;
  rk::pad_channels({.rows = t.size(0) * t.size(2) * t.size(3),
                    .c = t.size(1),
                    .dtype = dtype,
                    .x = t.const_data_ptr(),
                    .y = padded.mutable_data_ptr(),
                    .stream = current_stream(t)});
  return padded;
}

Tensor conv_fprop(const Tensor& x, const Tensor& weight, const OptionalTensor& scale,
                  const OptionalTensor& shift, const OptionalTensor& mean, const OptionalTensor& var,
                  double eps, const OptionalTensor& residual, const Ints& stride, const Ints& padding,
                  const Ints& dilation, bool relu, bool tf32) {
  constexpr const char* kOp = "conv_fprop";
  const rk::ConvShape shape = conv_shape(x, weight, stride, padding, dilation, kOp);
  const OnDeviceOf guard(x);
  if (rk::pads_channels(shape, dtype_of(x, kOp))) {
    return conv_fprop(pad_channels(x, kOp), pad_channels(weight, kOp), scale, shift, mean, var, eps, residual,
                      stride, padding, dilation, relu, tf32);
  }
  Tensor y = empty_activation(x, shape.n, shape.k, shape.p(), shape.q());
  check_like(y, residual, kOp, "residual");
  if (y.numel() == 0) return y;
  rk::conv_fprop({.shape = shape,
                  .dtype = dtype_of(x, kOp),
                  .tf32 = tf32,
                  .relu = relu,
                  .affine = affine(x, shape.k, scale, shift, mean, var, eps, kOp),
                  .x = x.const_data_ptr(),
                  .weight = weight.const_data_ptr(),
                  .residual = residual ? residual->const_data_ptr() : nullptr,
                  .y = y.mutable_data_ptr(),
                  .partials = nullptr,
                  .stream = current_stream(x)});
  return y;
}

// Training: the raw convolution and its batch statistics, [2, K]: mean and sum of squared deviations of the
// rounded output.
std::tuple<Tensor, Tensor> conv_fprop_stats(const Tensor& x, const Tensor& weight, const Ints& stride,
                                            const Ints& padding, const Ints& dilation, bool tf32) {
  constexpr const char* kOp = "conv_fprop_stats";
  const rk::ConvShape shape = conv_shape(x, weight, stride, padding, dilation, kOp);
  const OnDeviceOf guard(x);
  if (rk::pads_channels(shape, dtype_of(x, kOp))) {
    return conv_fprop_stats(pad_channels(x, kOp), pad_channels(weight, kOp), stride, padding, dilation, tf32);
  }
  Tensor y = empty_activation(x, shape.n, shape.k, shape.p(), shape.q());
  STD_TORCH_CHECK(y.numel() > 0, kOp, ": an empty output has no statistics");
  Tensor moments = empty_floats(x, {2, shape.k});
  rk::ConvFprop problem = {.shape = shape,
                           .dtype = dtype_of(x, kOp),
                           .tf32 = tf32,
                           .relu = false,
                           .affine = {},
                           .x = x.const_data_ptr(),
                           .weight = weight.const_data_ptr(),
                           .residual = nullptr,
                           .y = y.mutable_data_ptr(),
                           .partials = nullptr,
                           .stream = current_stream(x)};
  const rk::RowTiles tiles = rk::conv_fprop_row_tiles(problem);
  Tensor partials = empty_floats(x, {tiles.tiles, shape.k, 2});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_fprop(problem);
  rk::reduce_statistics({.partials = problem.partials,
                         .result = moments.mutable_data_ptr<float>(),
                         .tiles = tiles.tiles,
                         .tile_rows = tiles.tile_rows,
                         .pixels = shape.gemm_m(),
                         .channels = shape.k,
                         .moments = true,
                         .stream = problem.stream});
  return {y, moments};
}

// dx of a convolution whose input has the size [.., .., input_size]. With bn_input and bn_mean also the sums
// over pixels of dx and of dx (bn_input - bn_mean), [2, C]; without, an empty tensor.
std::tuple<Tensor, Tensor> conv_dgrad(const Tensor& dy, const Tensor& weight, const OptionalTensor& residual,
                                      const OptionalTensor& mask, const OptionalTensor& bn_input,
                                      const OptionalTensor& bn_mean, const Ints& input_size,
                                      const Ints& stride, const Ints& padding, const Ints& dilation,
                                      bool tf32) {
  constexpr const char* kOp = "conv_dgrad";
  check_activation(dy, kOp, "dy");
  check_pair(input_size, 1, kOp, "input_size");
  const OnDeviceOf guard(dy);
  Tensor dx = empty_activation(dy, dy.size(0), weight.size(1), input_size[0], input_size[1]);
  const rk::ConvShape shape = conv_shape(dx, weight, stride, padding, dilation, kOp);
  STD_TORCH_CHECK(dy.size(1) == shape.k && dy.size(2) == shape.p() && dy.size(3) == shape.q(), kOp,
                  ": dy is not an output of ", rk::describe(shape));
  check_same(dy, weight, kOp, "weight");
  check_like(dx, residual, kOp, "residual");
  check_like(dx, bn_input, kOp, "bn_input");
  check_mask(dx, mask, kOp);
  STD_TORCH_CHECK(bn_input.has_value() == bn_mean.has_value(), kOp, ": bn_input and bn_mean come together");
  Tensor sums = empty_floats(dy, {bn_input ? 2 : 0, shape.c});
  if (dx.numel() == 0) return {dx, sums};
  Tensor transposed =
      torch::stable::empty({shape.weight_elements()}, dy.scalar_type(), std::nullopt, dy.device());
  rk::ConvDgrad problem = {.shape = shape,
                           .dtype = dtype_of(dy, kOp),
                           .tf32 = tf32,
                           .dy = dy.const_data_ptr(),
                           .weight = weight.const_data_ptr(),
                           .transposed = transposed.mutable_data_ptr(),
                           .residual = residual ? residual->const_data_ptr() : nullptr,
                           .mask = mask ? static_cast<const uint32_t*>(mask->const_data_ptr()) : nullptr,
                           .dx = dx.mutable_data_ptr(),
                           .partials = nullptr,
                           .bn_input = bn_input ? bn_input->const_data_ptr() : nullptr,
                           .bn_mean = vector_pointer(bn_mean, dy, shape.c, kOp, "bn_mean"),
                           .stream = current_stream(dy)};
  if (!bn_input) {
    rk::conv_dgrad(problem);
    return {dx, sums};
  }
  const int64_t tiles = rk::conv_dgrad_row_tiles(problem);
  Tensor partials = empty_floats(dy, {tiles, shape.c, 2});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_dgrad(problem);
  rk::reduce_statistics({.partials = problem.partials,
                         .result = sums.mutable_data_ptr<float>(),
                         .tiles = tiles,
                         .tile_rows = 0,
                         .pixels = shape.n * shape.h * shape.w,
                         .channels = shape.c,
                         .moments = false,
                         .stream = problem.stream});
  return {dx, sums};
}

Tensor conv_wgrad(const Tensor& dy, const Tensor& x, const Ints& kernel, const Ints& stride,
                  const Ints& padding, const Ints& dilation, bool tf32) {
  constexpr const char* kOp = "conv_wgrad";
  check_pair(kernel, 1, kOp, "kernel");
  check_activation(dy, kOp, "dy");
  check_same(x, dy, kOp, "dy");
  const OnDeviceOf guard(x);
  Tensor dw = empty_activation(x, dy.size(1), x.size(1), kernel[0], kernel[1]);
  rk::ConvShape shape = conv_shape(x, dw, stride, padding, dilation, kOp);
  STD_TORCH_CHECK(dy.size(0) == shape.n && dy.size(2) == shape.p() && dy.size(3) == shape.q(), kOp,
                  ": dy is not an output of ", rk::describe(shape));
  if (dw.numel() == 0) return dw;
  Tensor source = x;
  if (rk::pads_channels(shape, dtype_of(x, kOp))) {
    source = pad_channels(x, kOp);
    shape.c = source.size(1);
  }
  rk::ConvWgrad problem = {.shape = shape,
                           .dtype = dtype_of(x, kOp),
                           .tf32 = tf32,
                           .dy = dy.const_data_ptr(),
                           .x = source.const_data_ptr(),
                           .partials = nullptr,
                           .dw = dw.mutable_data_ptr(),
                           .dw_channels = x.size(1),
                           .stream = current_stream(x)};
  Tensor partials = empty_floats(x, {rk::conv_wgrad_splits(problem), shape.weight_elements()});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_wgrad(problem);
  return dw;
}

// A pooling problem over images like x's; the tensors are left null.
rk::MaxPool pooling(const Tensor& x, int64_t h, int64_t w, const Ints& kernel, const Ints& stride,
                    const Ints& padding, const char* op) {
  check_activation(x, op, "x");
  check_pair(kernel, 1, op, "kernel");
  check_pair(stride, 1, op, "stride");
  check_pair(padding, 0, op, "padding");
  const rk::MaxPool problem = {.n = x.size(0),
                               .h = h,
                               .w = w,
                               .c = x.size(1),
                               .r = kernel[0],
                               .s = kernel[1],
                               .stride_h = stride[0],
                               .stride_w = stride[1],
                               .pad_h = padding[0],
                               .pad_w = padding[1],
                               .dtype = dtype_of(x, op),
                               .x = nullptr,
                               .y = nullptr,
                               .indices = nullptr,
                               .stream = current_stream(x)};
  STD_TORCH_CHECK(problem.h + 2 * problem.pad_h >= problem.r && problem.w + 2 * problem.pad_w >= problem.s,
                  op, ": the window is larger than the padded image");
  return problem;
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

// With the position of each maximum in its window, uint8 [N, P, Q, C].
std::tuple<Tensor, Tensor> max_pool_indices(const Tensor& x, const Ints& kernel, const Ints& stride,
                                            const Ints& padding) {
  constexpr const char* kOp = "max_pool_indices";
  rk::MaxPool problem = pooling(x, x.size(2), x.size(3), kernel, stride, padding, kOp);
  STD_TORCH_CHECK(problem.r * problem.s <= 256, kOp, ": a byte counts 256 positions of a window at most");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation(x, problem.n, problem.c, problem.p(), problem.q());
  Tensor indices = torch::stable::empty({problem.n, problem.p(), problem.q(), problem.c}, ScalarType::Byte,
                                        std::nullopt, x.device());
  if (y.numel() == 0) return {y, indices};
  problem.x = x.const_data_ptr();
  problem.y = y.mutable_data_ptr();
  problem.indices = static_cast<uint8_t*>(indices.mutable_data_ptr());
  rk::max_pool(problem);
  return {y, indices};
}

Tensor max_pool_backward(const Tensor& dy, const Tensor& indices, const Ints& input_size, const Ints& kernel,
                         const Ints& stride, const Ints& padding) {
  constexpr const char* kOp = "max_pool_backward";
  check_pair(input_size, 1, kOp, "input_size");
  rk::MaxPool problem = pooling(dy, input_size[0], input_size[1], kernel, stride, padding, kOp);
  STD_TORCH_CHECK(dy.size(2) == problem.p() && dy.size(3) == problem.q(), kOp,
                  ": dy is not an output of this pooling");
  STD_TORCH_CHECK(indices.scalar_type() == ScalarType::Byte && indices.is_contiguous() &&
                      indices.device() == dy.device() && indices.numel() == dy.numel(),
                  kOp, ": indices must be a contiguous uint8 [N, P, Q, C]");
  const OnDeviceOf guard(dy);
  Tensor dx = empty_activation(dy, problem.n, problem.c, problem.h, problem.w);
  if (dx.numel() == 0) return dx;
  problem.indices = const_cast<uint8_t*>(static_cast<const uint8_t*>(indices.const_data_ptr()));
  rk::max_pool_backward(problem, dy.const_data_ptr(), dx.mutable_data_ptr());
  return dx;
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
                                   dilation, true, tf32);
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
  Tensor y = empty_activation(x, x.size(0), x.size(1), x.size(2), x.size(3));
  if (y.numel() == 0) return y;
  rk::bn_apply({.pixels = x.size(0) * x.size(2) * x.size(3),
                .channels = x.size(1),
                .dtype = dtype_of(x, kOp),
                .relu = relu,
                .affine = affine(x, x.size(1), scale, shift, mean, var, eps, kOp),
                .x = x.const_data_ptr(),
                .residual = residual ? residual->const_data_ptr() : nullptr,
                .y = y.mutable_data_ptr(),
                .mask = nullptr,
                .stream = current_stream(x)});
  return y;
}

// With ReLU and its mask.
std::tuple<Tensor, Tensor> bn_relu_mask(const Tensor& x, const OptionalTensor& scale,
                                        const OptionalTensor& shift, const Tensor& mean, const Tensor& var,
                                        double eps, const OptionalTensor& residual) {
  constexpr const char* kOp = "bn_relu_mask";
  check_activation(x, kOp, "x");
  check_like(x, residual, kOp, "residual");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation(x, x.size(0), x.size(1), x.size(2), x.size(3));
  Tensor mask = torch::stable::empty({x.size(0), x.size(2), x.size(3), (x.size(1) + 31) / 32},
                                     ScalarType::Int, std::nullopt, x.device());
  if (y.numel() == 0) return {y, mask};
  rk::bn_apply({.pixels = x.size(0) * x.size(2) * x.size(3),
                .channels = x.size(1),
                .dtype = dtype_of(x, kOp),
                .relu = true,
                .affine = affine(x, x.size(1), scale, shift, mean, var, eps, kOp),
                .x = x.const_data_ptr(),
                .residual = residual ? residual->const_data_ptr() : nullptr,
                .y = y.mutable_data_ptr(),
                .mask = static_cast<uint32_t*>(mask.mutable_data_ptr()),
                .stream = current_stream(x)});
  return {y, mask};
}

// Mean, biased variance and new running statistics (empty without old ones) from moments [2, C] over `count`
// pixels.
std::tuple<Tensor, Tensor, Tensor, Tensor> bn_finalize(const Tensor& moments, double count,
                                                       const OptionalTensor& running_mean,
                                                       const OptionalTensor& running_var, double momentum) {
  constexpr const char* kOp = "bn_finalize";
  STD_TORCH_CHECK(moments.dim() == 2 && moments.size(0) == 2 && moments.is_contiguous() &&
                      moments.scalar_type() == ScalarType::Float,
                  kOp, ": moments must be a contiguous float32 [2, C]");
  STD_TORCH_CHECK(running_mean.has_value() == running_var.has_value(), kOp,
                  ": running_mean and running_var come together");
  const int64_t channels = moments.size(1);
  const int64_t running = running_mean ? channels : 0;
  const OnDeviceOf guard(moments);
  Tensor mean = empty_floats(moments, {channels});
  Tensor var = empty_floats(moments, {channels});
  Tensor new_mean = empty_floats(moments, {running});
  Tensor new_var = empty_floats(moments, {running});
  if (channels == 0) return {mean, var, new_mean, new_var};
  rk::bn_finalize({.channels = channels,
                   .count = count,
                   .momentum = static_cast<float>(momentum),
                   .moments = moments.const_data_ptr<float>(),
                   .running_mean = vector_pointer(running_mean, moments, channels, kOp, "running_mean"),
                   .running_var = vector_pointer(running_var, moments, channels, kOp, "running_var"),
                   .mean = mean.mutable_data_ptr<float>(),
                   .var = var.mutable_data_ptr<float>(),
                   .new_running_mean = running_mean ? new_mean.mutable_data_ptr<float>() : nullptr,
                   .new_running_var = running_mean ? new_var.mutable_data_ptr<float>() : nullptr,
                   .stream = current_stream(moments)});
  return {mean, var, new_mean, new_var};
}

// h = mask . g (empty without a mask: h is g) and the sums [2, C] of h and h (x - mean).
std::tuple<Tensor, Tensor> bn_backward_reduce(const Tensor& g, const Tensor& x, const Tensor& mean,
                                              const OptionalTensor& mask) {
  constexpr const char* kOp = "bn_backward_reduce";
  check_activation(x, kOp, "x");
  check_like(x, g, kOp, "g");
  check_mask(x, mask, kOp);
  const OnDeviceOf guard(x);
  const int64_t channels = x.size(1);
  const int64_t pixels = x.size(0) * x.size(2) * x.size(3);
  STD_TORCH_CHECK(pixels > 0 && channels > 0, kOp, ": x is empty");
  Tensor h = mask ? empty_activation(x, x.size(0), channels, x.size(2), x.size(3))
                  : torch::stable::empty({0}, x.scalar_type(), std::nullopt, x.device());
  Tensor sums = empty_floats(x, {2, channels});
  const int64_t ranges = rk::bn_backward_ranges(pixels);
  Tensor partials = empty_floats(x, {ranges, channels, 2});
  rk::bn_backward_reduce({.pixels = pixels,
                          .channels = channels,
                          .dtype = dtype_of(x, kOp),
                          .g = g.const_data_ptr(),
                          .x = x.const_data_ptr(),
                          .mean = vector_pointer(mean, x, channels, kOp, "mean"),
                          .mask = mask ? static_cast<const uint32_t*>(mask->const_data_ptr()) : nullptr,
                          .h = mask ? h.mutable_data_ptr() : nullptr,
                          .partials = partials.mutable_data_ptr<float>(),
                          .stream = current_stream(x)});
  rk::reduce_statistics({.partials = partials.const_data_ptr<float>(),
                         .result = sums.mutable_data_ptr<float>(),
                         .tiles = ranges,
                         .tile_rows = 0,
                         .pixels = pixels,
                         .channels = channels,
                         .moments = false,
                         .stream = current_stream(x)});
  return {h, sums};
}

// Gradients of BatchNorm's input, scale and shift. sums cover all ranks and local_sums this one; count is all
// ranks' pixels.
std::tuple<Tensor, Tensor, Tensor> bn_backward_apply(const Tensor& h, const Tensor& x,
                                                     const OptionalTensor& scale, const Tensor& mean,
                                                     const Tensor& var, double eps, const Tensor& sums,
                                                     const Tensor& local_sums, double count,
                                                     bool batch_stats) {
  constexpr const char* kOp = "bn_backward_apply";
  check_activation(x, kOp, "x");
  check_like(x, h, kOp, "h");
  const int64_t channels = x.size(1);
  for (const Tensor* pair : {&sums, &local_sums}) {
    STD_TORCH_CHECK(pair->dim() == 2 && pair->size(0) == 2 && pair->size(1) == channels &&
                        pair->is_contiguous() && pair->scalar_type() == ScalarType::Float &&
                        pair->device() == x.device(),
                    kOp, ": sums must be a contiguous float32 [2, C] on x's device");
  }
  const OnDeviceOf guard(x);
  Tensor dx = empty_activation(x, x.size(0), channels, x.size(2), x.size(3));
  Tensor dscale = empty_floats(x, {channels});
  Tensor dshift = empty_floats(x, {channels});
  STD_TORCH_CHECK(dx.numel() > 0, kOp, ": x is empty");
  rk::bn_backward_apply({.pixels = x.size(0) * x.size(2) * x.size(3),
                         .channels = channels,
                         .dtype = dtype_of(x, kOp),
                         .batch_statistics = batch_stats,
                         .count = count,
                         .eps = static_cast<float>(eps),
                         .h = h.const_data_ptr(),
                         .x = x.const_data_ptr(),
                         .scale = vector_pointer(scale, x, channels, kOp, "scale"),
                         .mean = vector_pointer(mean, x, channels, kOp, "mean"),
                         .var = vector_pointer(var, x, channels, kOp, "var"),
                         .sums = sums.const_data_ptr<float>(),
                         .local_sums = local_sums.const_data_ptr<float>(),
                         .dx = dx.mutable_data_ptr(),
                         .dscale = dscale.mutable_data_ptr<float>(),
                         .dshift = dshift.mutable_data_ptr<float>(),
                         .stream = current_stream(x)});
  return {dx, dscale, dshift};
}

Tensor global_avg_pool_backward(const Tensor& dy, const Ints& input_size) {
  constexpr const char* kOp = "global_avg_pool_backward";
  STD_TORCH_CHECK(is_matrix(dy), kOp, ": dy must be a dense matrix [N, C]");
  check_pair(input_size, 1, kOp, "input_size");
  const OnDeviceOf guard(dy);
  Tensor dx = empty_activation(dy, dy.size(0), dy.size(1), input_size[0], input_size[1]);
  if (dx.numel() == 0) return dx;
  rk::global_avg_pool_backward({.n = dy.size(0),
                                .pixels = input_size[0] * input_size[1],
                                .c = dy.size(1),
                                .dtype = dtype_of(dy, kOp),
                                .x = dy.const_data_ptr(),
                                .y = dx.mutable_data_ptr(),
                                .stream = current_stream(dy)});
  return dx;
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
                  .y = y.mutable_data_ptr(),
                  .partials = nullptr,
                  .stream = current_stream(x)});
  return y;
}

Tensor conformance(const Tensor& input, const std::string& primitive) {
  const int64_t words = rk::conformance_input_words(primitive.c_str());
  STD_TORCH_CHECK(input.scalar_type() == ScalarType::Int && input.dim() == 1 && input.numel() == words &&
                      (words == 1 || input.stride(0) == 1),
                  "conformance: ", primitive, " takes ", words, " contiguous int32 words");
  const OnDeviceOf guard(input);
  Tensor output = torch::stable::empty({rk::conformance_output_words(primitive.c_str())}, ScalarType::Int,
                                       std::nullopt, input.device());
  rk::conformance(primitive.c_str(), input.const_data_ptr(), output.mutable_data_ptr(),
                  current_stream(input));
  return output;
}

}  // namespace

#define RK_LIBRARY_IMPL(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)

RK_LIBRARY_IMPL(RK_NAMESPACE, RK_DISPATCH_KEY, m) {
  m.impl("conv_fprop", TORCH_BOX(&conv_fprop));
  m.impl("conv_fprop_stats", TORCH_BOX(&conv_fprop_stats));
  m.impl("conv_dgrad", TORCH_BOX(&conv_dgrad));
  m.impl("conv_wgrad", TORCH_BOX(&conv_wgrad));
  m.impl("bn_apply", TORCH_BOX(&bn_apply));
  m.impl("conv_bn_relu_maxpool", TORCH_BOX(&conv_bn_relu_maxpool));
  m.impl("bn_relu_mask", TORCH_BOX(&bn_relu_mask));
  m.impl("bn_finalize", TORCH_BOX(&bn_finalize));
  m.impl("bn_backward_reduce", TORCH_BOX(&bn_backward_reduce));
  m.impl("bn_backward_apply", TORCH_BOX(&bn_backward_apply));
  m.impl("max_pool", TORCH_BOX(&max_pool));
  m.impl("max_pool_indices", TORCH_BOX(&max_pool_indices));
  m.impl("max_pool_backward", TORCH_BOX(&max_pool_backward));
  m.impl("global_avg_pool_backward", TORCH_BOX(&global_avg_pool_backward));
  m.impl("global_avg_pool", TORCH_BOX(&global_avg_pool));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("conformance", TORCH_BOX(&conformance));
}

// The GPU's module is empty: loading it runs the registrations above. The simulator's has its own
// (machine/sim/module.cpp).
#ifdef RK_MODULE_C
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
#endif
