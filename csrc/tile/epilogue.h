// The end of every convolution: float32 accumulators become a tile of output.
//
//   y = round(mask . relu?(affine(acc) + residual_mask . residual)), and statistics of the rounded y
//
// In dgrad the ReLU before the convolution may be given by the input x of the BatchNorm before it, which the
// statistics read anyway: the gradient passes where round(bn(x)) > 0, to the bit what forward computed.
//
// The accumulators go through a float32 panel in shared memory, from the fragments' order into rows of
// channels; then a thread takes one chunk of channels of several pixels, so that residual, mask and output
// move in coalesced accesses and the thread's channels, hence its coefficients and its sums, stay the same.
#pragma once

#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "api.h"
#include "tile/affine.h"
#include "tile/conv_geometry.h"
#include "tile/epilogue_params.h"
#include "tile/format.h"
#include "tile/residual.h"
#include "tile/statistics.h"

namespace rk::tile {

// Words between rows of the panel: eight more than the tile's width, so that the four rows that fragments
// write at once lie in different banks.
template <int kColumns>
constexpr uint32_t kPanelPitch = kColumns + 8;

template <int kRows, int kColumns>
constexpr uint32_t kPanelBytes = kRows * kPanelPitch<kColumns> * 4;

// kCount consecutive floats of a panel row.
template <int kCount>
RK_DEVICE void read_panel(uint32_t address, float (&values)[kCount]) {
  RK_UNROLL
  for (int i = 0; i < kCount; i += 4) {
    const auto words = ptx::ld_shared<Words4>(address + i * 4);
    RK_UNROLL
    for (int e = 0; e < 4; ++e) values[i + e] = std::bit_cast<float>(words.word[e]);
  }
}

// The bits of a chunk's channels, the first in bit 0.
RK_DEVICE uint32_t read_mask(const uint32_t* mask, int64_t pixel, int32_t columns, int32_t channel) {
  const int32_t words = (columns + 31) / 32;
  return ptx::ld_global_nc(mask + pixel * words + channel / 32) >> (channel % 32);
}

template <int kCount>
RK_DEVICE void apply_mask(uint32_t bits, float (&values)[kCount]) {
  RK_UNROLL
  for (int e = 0; e < kCount; ++e) values[e] = (bits >> e) % 2 != 0 ? values[e] : 0.f;
}

// Where ReLU lets the gradient pass: not (y <= 0), so that NaN passes as it does in PyTorch.
template <int kCount>
RK_DEVICE uint32_t passing(const float (&y)[kCount]) {
  uint32_t bits = 0;
  RK_UNROLL
  for (int e = 0; e < kCount; ++e) bits |= static_cast<uint32_t>(!(y[e] <= 0.f)) << e;
  return bits;
}

// kRows rows and kColumns columns from (first_row, first_column), those that exist, by kThreads threads.
// kBackward: dgrad's epilogue, with masks and the sums of a gradient; otherwise fprop's, with affine map,
// ReLU and moments. What the other one needs would cost this one registers.
template <class Format, int kRows, int kColumns, int kThreads, bool kBackward>
struct EpilogueTile {
  using Element = typename Format::Element;
  static constexpr int kPerChunk = Format::kPerChunk;
  static constexpr int kChunks = kColumns / kPerChunk;
  static constexpr int kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0,
                "a thread keeps its channels from pass to pass");
  static_assert(kTileStatisticsBytes<kRowsAtOnce, kColumns> <= kPanelBytes<kRows, kColumns>,
                "the statistics take the panel's place");

  const Epilogue& epilogue;
  const ConvGeometry& conv;
  uint32_t panel;
  int32_t first_row, first_column;

  template <bool kVector>
  RK_DEVICE void add_residual(const Element* residual, int32_t m, int64_t pixel, int32_t channel,
                              float (&values)[kPerChunk]) const {
    const ResidualView& view = epilogue.residual_view;
    int32_t channels = conv.columns;
    if (view.channels != 0) {
      channels = view.channels;
      uint32_t h, w;
      const uint32_t image = conv.output_position(m, h, w);
      if (channel >= channels ||
          !residual_pixel(view, image, static_cast<int32_t>(h), static_cast<int32_t>(w), pixel)) {
        return;
      }
    }
    float skip[kPerChunk];
    load_chunk<Format, kVector>(residual + pixel * channels + channel, channels - channel, skip);
    if (epilogue.residual_mask != nullptr)
      apply_mask(read_mask(epilogue.residual_mask, pixel, channels, channel), skip);
    RK_UNROLL
    for (int e = 0; e < kPerChunk; ++e) values[e] += skip[e];
  }

  template <bool kVector>
  RK_DEVICE void write(RunningStatistics<kPerChunk>& statistics) const {
    const auto chunk = static_cast<int32_t>(ptx::tid_x() % kChunks);
    const auto row = static_cast<int32_t>(ptx::tid_x() / kChunks);
    const int32_t channel = first_column + chunk * kPerChunk;
    const int32_t count = conv.columns - channel;
    if (count <= 0) return;
    const auto* residual = static_cast<const Element*>(epilogue.residual);
    [[maybe_unused]] auto* y = static_cast<Element*>(epilogue.y);

    ChannelAffine<kPerChunk> affine;  // of the accumulators; in backward of the BatchNorm before them
    affine.load(kBackward ? epilogue.statistics.bn : epilogue.affine, channel, conv.columns);

    RK_NO_UNROLL
    for (int32_t i = row; i < kRows; i += kRowsAtOnce) {
      const int32_t m = first_row + i;
      if (m >= conv.gemm_m()) break;
      const int64_t pixel = conv.output_pixel(m);
      const int64_t offset = pixel * conv.columns + channel;
      float values[kPerChunk];
      read_panel(panel + (i * kPanelPitch<kColumns> + chunk * kPerChunk) * 4, values);
      if constexpr (!kBackward) {
        RK_UNROLL
        for (int e = 0; e < kPerChunk; ++e) values[e] = affine.apply(values[e], e);
      }
      if (residual != nullptr) add_residual<kVector>(residual, m, pixel, channel, values);
      if constexpr (kBackward) {
        finish_backward<kVector>(pixel, offset, channel, count, affine, values, statistics);
      } else {
        if (epilogue.relu) {
          RK_UNROLL
          for (int e = 0; e < kPerChunk; ++e) values[e] = relu(values[e]);
        }
        store_chunk<Format, kVector>(y + offset, count, values);
        if (epilogue.statistics.kind == Statistics::Kind::moments) statistics.add_moments(values);
      }
    }
  }

  template <bool kVector>
  RK_DEVICE void finish_backward(int64_t pixel, int64_t offset, int32_t channel, int32_t count,
                                 const ChannelAffine<kPerChunk>& bn, float (&values)[kPerChunk],
                                 RunningStatistics<kPerChunk>& statistics) const {
    if (epilogue.mask != nullptr) apply_mask(read_mask(epilogue.mask, pixel, conv.columns, channel), values);
    auto* dx = static_cast<Element*>(epilogue.y);
    if (epilogue.statistics.kind == Statistics::Kind::none) {
      store_chunk<Format, kVector>(dx + offset, count, values);
      return;
    }
    float inputs[kPerChunk];
    load_chunk<Format, kVector>(static_cast<const Element*>(epilogue.statistics.bn_input) + offset, count,
                                inputs);
    if (epilogue.statistics.bn_relu) {
      float activations[kPerChunk];
      RK_UNROLL
      for (int e = 0; e < kPerChunk; ++e) activations[e] = bn.apply(inputs[e], e);
      unpack<Format>(pack<Format>(activations), activations);
      apply_mask(passing(activations), values);
    }
    store_chunk<Format, kVector>(dx + offset, count, values);
    statistics.add_gradient(values, inputs, bn.mean);
  }

  // Every thread of the block calls this once the panel's memory is free. store_accumulators(panel, pitch)
  // writes the block's accumulators. row_tile is this block's place in the statistics' partials.
  template <class StoreAccumulators>
  RK_DEVICE void run(int32_t row_tile, const StoreAccumulators& store_accumulators) const {
    store_accumulators(panel, kPanelPitch<kColumns>);
    ptx::barrier_sync();
    RunningStatistics<kPerChunk> statistics;
    if (epilogue.vector) {
      write<true>(statistics);
    } else {
      write<false>(statistics);
    }
    if (epilogue.statistics.kind == Statistics::Kind::none) return;
    ptx::barrier_sync();  // the threads' statistics take the panel's place
    reduce_tile_statistics<kRowsAtOnce, kColumns, kPerChunk>(epilogue.statistics, statistics, panel, row_tile,
                                                             first_column, conv.columns);
  }
};

}  // namespace rk::tile
