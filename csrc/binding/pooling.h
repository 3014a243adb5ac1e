// A pooling problem as the kernels take it, forward and backward.
#pragma once

#include "binding/tensors.h"

namespace rk::binding {

// A pooling problem over images like x's; the tensors are left null.
inline MaxPool pooling(const Tensor& x, int64_t h, int64_t w, const Ints& kernel, const Ints& stride,
                       const Ints& padding, const char* op) {
  check_activation(x, op, "x");
  check_pair(kernel, 1, op, "kernel");
  check_pair(stride, 1, op, "stride");
  check_pair(padding, 0, op, "padding");
  const MaxPool problem = {.n = x.size(0),
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

}  // namespace rk::binding
