// A convolution as its kernels see it: 32-bit extents and the divisions that turn a GEMM row into a pixel.
#pragma once

#include <cstdint>

#include "tile/divmod.h"

namespace rk::tile {

// Products of image extents fit 31 bits; the whole tensors need not.
struct ConvGeometry {
  int32_t n, h, w, c;
  int32_t k, r, s;
  int32_t p, q;
  int32_t stride_h, stride_w;
  int32_t pad_h, pad_w;
  int32_t dilation_h, dilation_w;
  Divisor divide_pq, divide_q;

  constexpr int64_t x_elements() const { return int64_t{n} * h * w * c; }
  constexpr int64_t weight_elements() const { return int64_t{k} * r * s * c; }
  constexpr int64_t y_elements() const { return int64_t{n} * p * q * k; }
  constexpr int32_t gemm_m() const { return n * p * q; }
  constexpr int32_t gemm_k() const { return r * s * c; }
};

}  // namespace rk::tile
