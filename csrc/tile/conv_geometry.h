// A convolution as an implicit GEMM: which source pixel a row of the GEMM needs for a tap, and where its
// output goes.
//
// Along each axis, GEMM row position i and tap j need source coordinate i row_step + base + j tap_step, which
// counts as zero outside [0, source). Forward and backward-data convolution are both of this form:
//
//                      source   rows         taps     row_step  base     tap_step      channels  columns
//   fprop              x        p            r        stride    -pad     dilation      c         k
//   dgrad, one phase   dy       its pixels   some r   1         see dispatch/problem.cpp  k      c
//
// Products of image extents fit 31 bits; the whole tensors need not.
#pragma once

#include <cstdint>

#include "tile/divmod.h"

namespace rk::tile {

struct ConvAxis {
  int32_t source;    // extent of the source
  int32_t rows;      // extent of the GEMM's rows
  int32_t taps;      // taps that contribute; may be 0 in dgrad
  int32_t row_step;  // source pixels from one row position to the next
  int32_t base;      // source coordinate of row position 0, tap 0
  int32_t tap_step;  // source pixels from one tap to the next
};

// Where GEMM row position i lies along one axis of the output: i step + first.
struct OutputAxis {
  int32_t extent;
  int32_t step;
  int32_t first;
};

struct ConvGeometry {
  int32_t n;
  ConvAxis h, w;
  int32_t channels;  // of the source: the fastest part of the GEMM's depth
  int32_t columns;   // of the GEMM: channels of the output

  // Weights: element (column, tap h, tap w, channel) at weight_first + column weight_column + h weight_tap_h
  // + ... + channel.
  int32_t weight_column, weight_tap_h, weight_tap_w, weight_first;

  OutputAxis output_h, output_w;
  bool dense_output;  // row m of the GEMM is pixel m of the output
  Divisor divide_rows, divide_rows_w;

  constexpr int32_t gemm_m() const { return n * h.rows * w.rows; }
  constexpr int32_t gemm_k() const { return h.taps * w.taps * channels; }
  constexpr int64_t source_elements() const { return int64_t{n} * h.source * w.source * channels; }
  constexpr int64_t output_elements() const {
    return int64_t{n} * output_h.extent * output_w.extent * columns;
  }
  constexpr int64_t weight_elements() const { return int64_t{columns} * weight_column; }

  // GEMM row m, 0 <= m < gemm_m(), as image n and row positions (i, j).
  constexpr uint32_t position(uint32_t m, uint32_t& i, uint32_t& j) const {
    uint32_t pixel;
    const uint32_t image = divide_rows.divide(m, pixel);
    i = divide_rows_w.divide(pixel, j);
    return image;
  }

  // The output pixel of GEMM row m, counted over the batch.
  constexpr int64_t output_pixel(uint32_t m) const {
    if (dense_output) return m;
    uint32_t h, w;
    const uint32_t image = output_position(m, h, w);
    return (int64_t{image} * output_h.extent + h) * output_w.extent + w;
  }

  // The same as image n and coordinates (h, w).
  constexpr uint32_t output_position(uint32_t m, uint32_t& h, uint32_t& w) const {
    const uint32_t image = position(m, h, w);
    h = h * output_h.step + output_h.first;
    w = w * output_w.step + output_w.first;
    return image;
  }
};

}  // namespace rk::tile
