// The end of every convolution: float32 accumulators become a tile of output.
//
//   y = round(relu?(affine(acc) + residual))
//
// The accumulators go through a float32 panel in shared memory, from the fragments' order into rows of channels; then a thread
// takes one chunk of channels of several pixels, so that residual and output move in coalesced 16-byte accesses and the
// thread's channels, hence its affine coefficients, stay the same.
#pragma once

#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "api.h"
#include "tile/affine.h"
#include "tile/conv_geometry.h"
#include "tile/format.h"

namespace rk::tile {

struct Epilogue {
  Affine affine;
  const void* residual;  // [pixels, columns] or null
  void* y;               // [pixels, columns]
  bool relu;
  bool vector;  // columns are a multiple of a chunk and residual and y are 16-byte aligned
};

// Words between rows of the panel: eight more than the tile's width, so that the four rows that fragments write at once lie
// in different banks.
template <int kColumns>
constexpr uint32_t kPanelPitch = kColumns + 8;

template <int kRows, int kColumns>
constexpr uint32_t kPanelBytes = kRows * kPanelPitch<kColumns> * 4;

// Sixteen or thirty-two bytes of a panel row as floats.
template <int kCount>
RK_DEVICE void read_panel(uint32_t address, float (&values)[kCount]) {
  RK_UNROLL
  for (int i = 0; i < kCount; i += 4) {
    const auto words = ptx::ld_shared<Words4>(address + i * 4);
    RK_UNROLL
    for (int e = 0; e < 4; ++e) values[i + e] = std::bit_cast<float>(words.word[e]);
  }
}

template <class Format, int kRows, int kColumns, int kThreads, bool kVector>
RK_DEVICE void write_rows(const Epilogue& epilogue, const ConvGeometry& conv, uint32_t panel, int32_t first_row,
                          int32_t first_column) {
  using Element = typename Format::Element;
  constexpr int kPerChunk = Format::kPerChunk;
  constexpr int kChunks = kColumns / kPerChunk;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0, "a thread keeps its channels from pass to pass");

  const auto chunk = static_cast<int32_t>(ptx::tid_x() % kChunks);
  const auto row = static_cast<int32_t>(ptx::tid_x() / kChunks);
  const int32_t channel = first_column + chunk * kPerChunk;
  if (channel >= conv.columns) return;
  const int32_t count = conv.columns - channel;
  const auto* residual = static_cast<const Element*>(epilogue.residual);
  auto* y = static_cast<Element*>(epilogue.y);

  ChannelAffine<kPerChunk> affine;
  affine.load(epilogue.affine, channel, conv.columns);

  RK_NO_UNROLL
  for (int32_t i = row; i < kRows; i += kRowsAtOnce) {
    const int32_t m = first_row + i;
    if (m >= conv.gemm_m()) break;
    const int64_t offset = conv.output_pixel(m) * conv.columns + channel;
    float values[kPerChunk];
    read_panel(panel + (i * kPanelPitch<kColumns> + chunk * kPerChunk) * 4, values);
    RK_UNROLL
    for (int e = 0; e < kPerChunk; ++e) values[e] = affine.apply(values[e], e);
    if (residual != nullptr) {
      float skip[kPerChunk];
      unpack<Format>(load_chunk<Format, kVector>(residual + offset, count), skip);
      RK_UNROLL
      for (int e = 0; e < kPerChunk; ++e) values[e] += skip[e];
    }
    if (epilogue.relu) {
      RK_UNROLL
      for (int e = 0; e < kPerChunk; ++e) values[e] = relu(values[e]);
    }
    store_chunk<Format, kVector>(y + offset, count, pack<Format>(values));
  }
}

// Every thread of the block calls this once the panel's memory is free. store_accumulators(panel, pitch) writes the block's
// accumulators; the GEMM rows from first_row and columns from first_column that exist are then written out.
template <class Format, int kRows, int kColumns, int kThreads, class StoreAccumulators>
RK_DEVICE void run_epilogue(const Epilogue& epilogue, const ConvGeometry& conv, uint32_t panel, int32_t first_row,
                            int32_t first_column, const StoreAccumulators& store_accumulators) {
  store_accumulators(panel, kPanelPitch<kColumns>);
  ptx::barrier_sync();
  if (epilogue.vector) {
    write_rows<Format, kRows, kColumns, kThreads, true>(epilogue, conv, panel, first_row, first_column);
  } else {
    write_rows<Format, kRows, kColumns, kThreads, false>(epilogue, conv, panel, first_row, first_column);
  }
}

}  // namespace rk::tile
