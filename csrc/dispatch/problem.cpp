#include "dispatch/problem.h"

#include <limits>
#include <stdexcept>
#include <string>

namespace rk {

std::string describe(const ConvShape& shape) {
  const auto pair = [](int64_t h, int64_t w) { return std::to_string(h) + "x" + std::to_string(w); };
  return "x [" + std::to_string(shape.n) + ", " + std::to_string(shape.c) + ", " + pair(shape.h, shape.w) +
         "], weight [" + std::to_string(shape.k) + ", " + std::to_string(shape.c) + ", " + pair(shape.r, shape.s) +
         "], stride " + pair(shape.stride_h, shape.stride_w) + ", padding " + pair(shape.pad_h, shape.pad_w) +
         ", dilation " + pair(shape.dilation_h, shape.dilation_w);
}

namespace dispatch {

int32_t index32(int64_t value, const char* what) {
  if (value < 1 || value > std::numeric_limits<int32_t>::max()) {
    throw std::runtime_error(std::string(what) + " is " + std::to_string(value) +
                             "; the kernels index 1 to 2^31 - 1: split the batch or the image");
  }
  return static_cast<int32_t>(value);
}

tile::ConvGeometry geometry(const ConvShape& shape) {
  const int32_t p = index32(shape.p(), "output height");
  const int32_t q = index32(shape.q(), "output width");
  index32(shape.gemm_m(), "number of output pixels (n p q)");
  index32(shape.gemm_k(), "size of a filter (r s c)");
  // Kernels add pad and window to coordinates before they compare: leave room for both.
  index32(4 * (shape.h + 2 * shape.pad_h) * (shape.w + 2 * shape.pad_w) * shape.c, "4 x size of a padded image (h w c)");
  return {.n = index32(shape.n, "batch"),
          .h = index32(shape.h, "height"),
          .w = index32(shape.w, "width"),
          .c = index32(shape.c, "channels"),
          .k = index32(shape.k, "filters"),
          .r = index32(shape.r, "filter height"),
          .s = index32(shape.s, "filter width"),
          .p = p,
          .q = q,
          .stride_h = index32(shape.stride_h, "stride"),
          .stride_w = index32(shape.stride_w, "stride"),
          .pad_h = static_cast<int32_t>(shape.pad_h),
          .pad_w = static_cast<int32_t>(shape.pad_w),
          .dilation_h = index32(shape.dilation_h, "dilation"),
          .dilation_w = index32(shape.dilation_w, "dilation"),
          .divide_pq = tile::Divisor(static_cast<uint32_t>(p * q)),
          .divide_q = tile::Divisor(static_cast<uint32_t>(q))};
}

bool aligned_chunks(DType dtype, int64_t channels, std::initializer_list<const void*> tensors) {
  if (channels * element_bytes(dtype) % 16 != 0) return false;
  for (const void* tensor : tensors) {
    if (reinterpret_cast<uintptr_t>(tensor) % 16 != 0) return false;
  }
  return true;
}

}  // namespace dispatch
}  // namespace rk
