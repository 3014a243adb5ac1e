// Rows of a convolution's implicit GEMM as boxes that TMA copies: 64 channels (128 bytes, one row of a tile)
// of the pixels of consecutive GEMM rows.
//
// Of the source the pixels are those that one tap sees, found by an im2col map whose walk is that of the
// rows; of the output and what has its shape, the rows' own pixels: of all of them, or of one phase of dgrad.
// Where row m is simply pixel m, the map is that of a matrix.
#pragma once

#include <cstdint>

#include <ptx/tma.h>

#include "machine/tensor_map.h"
#include "machine/tensor_map_cache.h"
#include "tile/conv_geometry.h"
#include "tile/swizzle.h"

namespace rk::tile {

constexpr int kBoxChannels = 64;
static_assert(kBoxChannels * 2 == kRowBytes, "a box is as wide as the swizzle's span");

// GEMM row m is pixel m of the source, for its only tap.
constexpr bool dense_source(const ConvGeometry& conv) {
  const auto dense = [](const ConvAxis& axis) {
    return axis.taps == 1 && axis.rows == axis.source && axis.row_step == 1 && axis.base == 0;
  };
  return dense(conv.h) && dense(conv.w);
}

// The source coordinate, along one axis, of row position 0 and the tap that lies first in memory: the other
// taps are offsets from it, which TMA wants to be positive.
constexpr int32_t window_start(const ConvAxis& axis) {
  return axis.tap_step < 0 ? axis.base + (axis.taps - 1) * axis.tap_step : axis.base;
}
constexpr int32_t window_offset(const ConvAxis& axis, int32_t tap) {
  return (axis.tap_step < 0 ? tap - (axis.taps - 1) : tap) * axis.tap_step;
}
// From the image's last pixel to the source coordinate of the last row position: the map's upper corner.
constexpr int32_t window_end(const ConvAxis& axis) {
  return window_start(axis) + (axis.rows - 1) * axis.row_step - (axis.source - 1);
}

// ---- maps, encoded by the host. `rows`: how many a box has.

inline machine::TensorMap matrix_map(machine::ElementType type, const void* data, int64_t rows,
                                     int32_t channels, uint32_t box_rows) {
  return machine::encode_cached({.type = type,
                                 .rank = 2,
                                 .data = data,
                                 .extent = {static_cast<uint64_t>(channels), static_cast<uint64_t>(rows)},
                                 .stride = {static_cast<uint64_t>(channels) * 2},
                                 .box = {kBoxChannels, box_rows},
                                 .element_stride = {1, 1},
                                 .swizzle = machine::Swizzle::span128});
}

// The source; without taps there is nothing to load and any map will do.
inline machine::TensorMap source_map(machine::ElementType type, const void* data, const ConvGeometry& conv,
                                     uint32_t box_rows) {
  if (dense_source(conv)) return matrix_map(type, data, conv.gemm_m(), conv.channels, box_rows);
  if (conv.h.taps * conv.w.taps == 0) return {};
  const uint64_t pixel = static_cast<uint64_t>(conv.channels) * 2;
  const auto h = static_cast<uint64_t>(conv.h.source), w = static_cast<uint64_t>(conv.w.source);
  return machine::encode_cached(
      {.type = type,
       .data = data,
       .extent = {static_cast<uint64_t>(conv.channels), w, h, static_cast<uint64_t>(conv.n)},
       .stride = {pixel, w * pixel, h * w * pixel},
       .lower = {window_start(conv.w), window_start(conv.h)},
       .upper = {window_end(conv.w), window_end(conv.h)},
       .channels = kBoxChannels,
       .pixels = box_rows,
       .element_stride = {static_cast<uint32_t>(conv.w.row_step), static_cast<uint32_t>(conv.h.row_step)},
       .swizzle = machine::Swizzle::span128});
}

// A tensor of the output's shape; null has a map that nobody uses.
inline machine::TensorMap output_map(machine::ElementType type, const void* data, const ConvGeometry& conv,
                                     uint32_t box_rows) {
  if (data == nullptr) return {};
  if (conv.dense_output) return matrix_map(type, data, conv.gemm_m(), conv.columns, box_rows);
  const uint64_t pixel = static_cast<uint64_t>(conv.columns) * 2;
  const OutputAxis &h = conv.output_h, &w = conv.output_w;
  const uint64_t row = static_cast<uint64_t>(w.extent) * pixel;
  return machine::encode_cached(
      {.type = type,
       .data = static_cast<const uint8_t*>(data) + static_cast<uint64_t>(h.first) * row +
               static_cast<uint64_t>(w.first) * pixel,
       .extent = {static_cast<uint64_t>(conv.columns), static_cast<uint64_t>(conv.w.rows),
                  static_cast<uint64_t>(conv.h.rows), static_cast<uint64_t>(conv.n)},
       .stride = {static_cast<uint64_t>(w.step) * pixel, static_cast<uint64_t>(h.step) * row,
                  static_cast<uint64_t>(h.extent) * row},
       .lower = {0, 0},
       .upper = {0, 0},
       .channels = kBoxChannels,
       .pixels = box_rows,
       .element_stride = {1, 1},
       .swizzle = machine::Swizzle::span128});
}

// ---- copies, started by one thread of the kernel

// A GEMM row as image n and row positions (i, j); rows past the last one lie in images past the last one,
// which read as zeros and are not written.
struct PixelRow {
  int32_t m, n, i, j;

  RK_DEVICE PixelRow(const ConvGeometry& conv, int32_t row) : m(row) {
    uint32_t at_i, at_j;
    n = static_cast<int32_t>(conv.position(static_cast<uint32_t>(row), at_i, at_j));
    i = static_cast<int32_t>(at_i);
    j = static_cast<int32_t>(at_j);
  }
};

// What the taps see of consecutive GEMM rows: where that starts in the source, found once for all taps and
// channels.
class SourceRows {
 public:
  SourceRows() = default;

  // map: source_map's.
  RK_DEVICE SourceRows(const machine::TensorMap& map, const ConvGeometry& conv, int32_t row)
      : map_(&map), dense_(dense_source(conv)), w_(row) {
    if (dense_) return;
    const PixelRow at(conv, row);
    w_ = at.j * conv.w.row_step + window_start(conv.w);
    h_ = at.i * conv.h.row_step + window_start(conv.h);
    n_ = at.n;
  }

  // A box of the tap that lies at these window_offsets.
  RK_DEVICE void load(uint32_t box, uint32_t mbarrier, int32_t channel, int32_t offset_h,
                      int32_t offset_w) const {
    if (dense_) return ptx::tma_load(box, *map_, mbarrier, {channel, w_});
    ptx::tma_load_im2col(box, *map_, mbarrier, {channel, w_, h_, n_},
                         {static_cast<uint16_t>(offset_w), static_cast<uint16_t>(offset_h)});
  }

 private:
  const machine::TensorMap* map_ = nullptr;
  bool dense_ = false;
  int32_t w_ = 0, h_ = 0, n_ = 0;  // source coordinates; where it is dense, w_ is the row
};

RK_DEVICE void load_output(uint32_t box, const machine::TensorMap& map, uint32_t mbarrier,
                           const ConvGeometry& conv, const PixelRow& row, int32_t channel) {
  if (conv.dense_output) return ptx::tma_load(box, map, mbarrier, {channel, row.m});
  ptx::tma_load_im2col(box, map, mbarrier, {channel, row.j, row.i, row.n}, {0, 0});
}

RK_DEVICE void store_output(const machine::TensorMap& map, uint32_t box, const ConvGeometry& conv,
                            const PixelRow& row, int32_t channel) {
  if (conv.dense_output) return ptx::tma_store(map, box, {channel, row.m});
  ptx::tma_store_im2col(map, box, {channel, row.j, row.i, row.n});
}

}  // namespace rk::tile
