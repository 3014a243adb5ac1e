// PyTorch's tensors as the kernels' pointers and shapes: what every operator checks and allocates.
//
// The files of binding/ are the only ones that include torch, compiled once per machine through LibTorch's
// stable ABI. Tensors were checked in Python (resnet_kernels/ops.py and training/); what is checked again
// here protects memory when an operator is called directly: layout, device, dtype and sizes that pointers
// depend on. Schemas are in resnet_kernels/_register.py and training/operators.py.
#pragma once

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

namespace rk::binding {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

// The caller's stream. The shim lives in libtorch_cuda, which a CPU build of torch lacks and which must not
// become a dependency of this file: it is looked up among the libraries that torch has already loaded.
inline Stream current_stream(const Tensor& tensor) {
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

inline DType dtype_of(const Tensor& tensor, const char* op) {
  switch (tensor.scalar_type()) {
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Half: return DType::f16;
    case ScalarType::Float: return DType::f32;
    default: STD_TORCH_CHECK(false, op, ": dtype must be bfloat16, float16 or float32");
  }
}

// Strides of a dense NHWC tensor of logical shape NCHW; strides of dimensions of size 1, and of an empty
// tensor, mean nothing.
inline bool is_channels_last(const Tensor& t) {
  if (t.dim() != 4) return false;
  if (t.numel() == 0) return true;
  const auto fits = [&](int64_t dim, int64_t stride) { return t.size(dim) == 1 || t.stride(dim) == stride; };
  return fits(1, 1) && fits(3, t.size(1)) && fits(2, t.size(1) * t.size(3)) &&
         fits(0, t.size(1) * t.size(2) * t.size(3));
}

inline bool is_matrix(const Tensor& t) {
  if (t.dim() != 2) return false;
  if (t.numel() == 0) return true;
  return (t.size(1) == 1 || t.stride(1) == 1) && (t.size(0) == 1 || t.stride(0) == t.size(1));
}

inline void check_same(const Tensor& x, const Tensor& other, const char* op, const char* name) {
  STD_TORCH_CHECK(other.device() == x.device(), op, ": ", name, " is on another device than x");
  STD_TORCH_CHECK(other.scalar_type() == x.scalar_type(), op, ": ", name, " has another dtype than x");
}

inline void check_activation(const Tensor& x, const char* op, const char* name) {
  STD_TORCH_CHECK(is_channels_last(x), op, ": ", name, " must be dense channels_last [N, C, H, W]");
}

inline const float* vector_pointer(const OptionalTensor& vector, const Tensor& x, int64_t channels,
                                   const char* op, const char* name) {
  if (!vector) return nullptr;
  STD_TORCH_CHECK(vector->scalar_type() == ScalarType::Float && vector->dim() == 1 &&
                      vector->size(0) == channels && (channels == 1 || vector->stride(0) == 1) &&
                      vector->device() == x.device(),
                  op, ": ", name, " must be a dense float32 vector of ", channels, " elements on x's device");
  return vector->const_data_ptr<float>();
}

inline Affine affine(const Tensor& x, int64_t channels, const OptionalTensor& scale,
                     const OptionalTensor& shift, const OptionalTensor& mean, const OptionalTensor& var,
                     double eps, const char* op) {
  STD_TORCH_CHECK(mean.has_value() == var.has_value(), op, ": mean and var come together");
  return {.weight = vector_pointer(scale, x, channels, op, "scale"),
          .bias = vector_pointer(shift, x, channels, op, "shift"),
          .mean = vector_pointer(mean, x, channels, op, "mean"),
          .var = vector_pointer(var, x, channels, op, "var"),
          .eps = static_cast<float>(eps)};
}

inline void check_pair(const Ints& pair, int64_t least, const char* op, const char* name) {
  STD_TORCH_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least, op, ": ", name,
                  " must be two integers of at least ", least);
}

inline Tensor empty_activation(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  return torch::stable::empty({n, c, h, w}, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              MemoryFormat::ChannelsLast);
}

inline Tensor empty_floats(const Tensor& like, const Ints& sizes) {
  return torch::stable::empty(sizes, ScalarType::Float, std::nullopt, like.device());
}

// An optional tensor of the same layout, shape, dtype and device as `like`.
inline void check_like(const Tensor& like, const OptionalTensor& other, const char* op, const char* name) {
  if (!other) return;
  check_activation(*other, op, name);
  check_same(like, *other, op, name);
  for (int64_t dim = 0; dim < 4; ++dim) {
    STD_TORCH_CHECK(other->size(dim) == like.size(dim), op, ": ", name, " must have the output's shape");
  }
}

// How a residual lies beside an output like `output`: of its shape, or with a stride (h, w) every stride-th
// pixel of a larger image, in as many channels or fewer; `transposed`: the gradient of such a one.
inline ResidualView residual_view(const Tensor& output, const OptionalTensor& residual, const Ints& stride,
                                  bool transposed, const char* op) {
  check_pair(stride, 1, op, "residual_stride");
  if (!residual) return {};
  check_activation(*residual, op, "residual");
  check_same(output, *residual, op, "residual");
  const auto same = [&](int64_t dim) { return residual->size(dim) == output.size(dim); };
  if (stride[0] == 1 && stride[1] == 1 && same(0) && same(1) && same(2) && same(3)) return {};
  const Tensor& wide = transposed ? output : *residual;
  const Tensor& narrow = transposed ? *residual : output;
  const auto strided = [&](int i) {
    return (wide.size(2 + i) + stride[i] - 1) / stride[i] == narrow.size(2 + i);
  };
  STD_TORCH_CHECK(
      same(0) && wide.size(1) <= narrow.size(1) && strided(0) && strided(1), op,
      ": residual must have the output's shape, or with residual_stride every so many pixels of it");
  const auto factor = [&](int i, bool divide) {
    return static_cast<int32_t>(divide == transposed ? stride[i] : 1);
  };
  return {.channels = static_cast<int32_t>(residual->size(1)),
          .h = static_cast<int32_t>(residual->size(2)),
          .w = static_cast<int32_t>(residual->size(3)),
          .multiply_h = factor(0, false),
          .multiply_w = factor(1, false),
          .divide_h = factor(0, true),
          .divide_w = factor(1, true)};
}

// ReLU's mask of a tensor like `like`: int32 [N, H, W, ceil(C / 32)], bit = channel. Null without one.
inline const uint32_t* mask_pointer(const Tensor& like, const OptionalTensor& mask, const char* op) {
  if (!mask) return nullptr;
  STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Int && mask->is_contiguous() && mask->dim() == 4 &&
                      mask->device() == like.device() && mask->size(0) == like.size(0) &&
                      mask->size(1) == like.size(2) && mask->size(2) == like.size(3) &&
                      mask->size(3) == (like.size(1) + 31) / 32,
                  op, ": a mask must be a contiguous int32 [N, H, W, ceil(C / 32)]");
  return static_cast<const uint32_t*>(mask->const_data_ptr());
}

inline Tensor empty_mask(const Tensor& like) {
  return torch::stable::empty({like.size(0), like.size(2), like.size(3), (like.size(1) + 31) / 32},
                              ScalarType::Int, std::nullopt, like.device());
}

inline Tensor empty_activation_like(const Tensor& x) {
  return empty_activation(x, x.size(0), x.size(1), x.size(2), x.size(3));
}

// A tensor without elements, for a result that was not asked for.
inline Tensor nothing(const Tensor& like, ScalarType dtype) {
  return torch::stable::empty({0}, dtype, std::nullopt, like.device());
}

inline const void* pointer(const OptionalTensor& tensor) {
  return tensor ? tensor->const_data_ptr() : nullptr;
}

// `rows` float32 vectors of `channels` elements.
inline const float* vectors_pointer(const Tensor& vectors, const Tensor& x, int64_t rows, int64_t channels,
                                    const char* op, const char* name) {
  STD_TORCH_CHECK(vectors.scalar_type() == ScalarType::Float && vectors.dim() == 2 &&
                      vectors.size(0) == rows && vectors.size(1) == channels && vectors.is_contiguous() &&
                      vectors.device() == x.device(),
                  op, ": ", name, " must be a contiguous float32 [", rows, ", ", channels, "] on x's device");
  return vectors.const_data_ptr<float>();
}

// norm [4, C] of bn_finalize: mean, scale, shift, rstd.
inline Affine affine_of_norm(const Tensor& norm, const Tensor& x, const char* op) {
  const int64_t channels = x.size(1);
  const float* data = vectors_pointer(norm, x, 4, channels, op, "norm");
  return {.weight = data + channels, .bias = data + 2 * channels, .mean = data, .var = nullptr, .eps = 0.f};
}

inline ConvShape conv_shape(const Tensor& x, const Tensor& weight, const Ints& stride, const Ints& padding,
                            const Ints& dilation, const char* op) {
  check_activation(x, op, "x");
  STD_TORCH_CHECK(is_channels_last(weight), op, ": weight must be dense channels_last [K, C, R, S]");
  check_same(x, weight, op, "weight");
  STD_TORCH_CHECK(weight.size(1) == x.size(1), op, ": weight has ", weight.size(1), " channels and x has ",
                  x.size(1));
  check_pair(stride, 1, op, "stride");
  check_pair(padding, 0, op, "padding");
  check_pair(dilation, 1, op, "dilation");
  const ConvShape shape = {.n = x.size(0),
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
                  op, ": the filter is larger than the padded image: ", describe(shape));
  return shape;
}

// A dense channels_last tensor with its channels padded by zeros to a 16-byte chunk.
inline Tensor pad_channels(const Tensor& t, const char* op) {
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

}  // namespace rk::binding

// Registers functions under the namespace and key that this compilation is for.
#define RK_LIBRARY_IMPL(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)
