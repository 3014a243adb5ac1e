// The end of a convolution on sm_90: what tile/epilogue.h does, from wgmma's accumulators, with TMA.
//
//   y = round(mask . relu?(affine(acc) + residual_mask . residual)), and statistics of the rounded y
//
// A consumer takes 64 rows a box of 64 channels at a time. What is read beside the accumulators, the
// residual and BatchNorm's input, a producer has brought to shared memory as boxes of the same shape; y goes
// out by TMA from a box that is filled while the one before it is still being read.
//
// Arithmetic happens where wgmma left the accumulators: ldmatrix and stmatrix move boxes from and to that
// order. Statistics want whole columns instead: a warp reads its own 16 rows of the finished box once more,
// each lane two channels, one row at a time. The same two channels' coefficients are what a lane loads, and
// shuffles hand them to the lanes that need them.
#pragma once

#include <cstdint>

#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/warp.h>

#include "api.h"
#include "tile/affine.h"
#include "tile/conv_geometry.h"
#include "tile/epilogue.h"
#include "tile/epilogue_params.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/epilogue_boxes.h"
#include "tile/sm90/fragments.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/statistics.h"
#include "tile/swizzle.h"

namespace rk::tile {

// kConsumers share a tile by rows; each has kBlocks boxes of 64 rows, one below the other.
template <class Format, EpilogueKind kKind, int kBlocks, int kColumns>
class BoxEpilogue {
  using Boxes = EpilogueBoxes<kKind>;
  using Coefficients = ChannelAffine<2>;
  static constexpr bool kBackward = kKind == EpilogueKind::backward;
  static constexpr int kWarps = kConsumers * 4;
  static constexpr int kRows = kConsumers * kBlocks * kBoxRows;
  // Three values of every warp and channel of a box.
  static constexpr uint32_t kScratchBytes = kWarps * kBoxChannels * 3 * 4;

 public:
  // Shared memory: boxes, then scratch. While the statistics of one box are merged, the next are put beside
  // them.
  static constexpr uint32_t kMemory = Boxes::kBoxMemory + (has_statistics(kKind) ? 2 * kScratchBytes : 0);
  static constexpr uint32_t kBarrierMemory = Boxes::kBarrierMemory;

  RK_DEVICE BoxEpilogue(const Epilogue& epilogue, uint32_t memory, uint32_t barriers)
      : epilogue_(epilogue), boxes_(epilogue, memory, barriers), scratch_(memory + Boxes::kBoxMemory) {}

  RK_DEVICE void init() const { boxes_.init(); }
  RK_DEVICE void drain() const { boxes_.drain(); }

  // ---- the producer of a consumer's boxes: one thread

  RK_DEVICE void load_sources(const OutputMaps& maps, const ConvGeometry& conv, int32_t first_row,
                              int32_t first_column, uint32_t consumer) {
    for (int32_t channel = first_column; channel < first_column + kColumns; channel += kBoxChannels) {
      if (channel >= conv.columns) return;
      for (int32_t block = 0; block < kBlocks; ++block)
        boxes_.load(maps, conv, block_row(first_row, consumer, block), channel, consumer);
    }
  }

  // ---- the consumers

  // All threads of all consumers; `consumer` is the caller's, product holds its accumulators.
  // row_tile: the tile's place in the statistics' partials.
  template <class Product>
  RK_DEVICE void run(const Product& product, const OutputMaps& maps, const ConvGeometry& conv,
                     int64_t row_tile, int32_t first_row, int32_t first_column, uint32_t consumer) {
    constexpr bool kAffine = kKind != EpilogueKind::moments;
    const Affine& affine = kBackward ? epilogue_.statistics.bn : epilogue_.affine;
    const int32_t lane_channel = static_cast<int32_t>(ptx::lane_id()) * 2;
    Coefficients coefficients;
    if constexpr (kAffine) coefficients.load(affine, first_column + lane_channel, conv.columns);
    RK_UNROLL
    for (int32_t box = 0; box < kColumns / kBoxChannels; ++box) {
      const int32_t channel = first_column + box * kBoxChannels;
      if (channel >= conv.columns) break;
      const bool goes_on = kAffine && box + 1 < kColumns / kBoxChannels;
      AffineVectors<2> next = {};
      if (goes_on) next.load(affine, channel + kBoxChannels + lane_channel, conv.columns);
      RunningStatistics<2> statistics;
      RK_UNROLL
      for (int32_t block = 0; block < kBlocks; ++block) {
        finish_box(product.block(block), box, maps, conv, block_row(first_row, consumer, block), channel,
                   consumer, coefficients, statistics);
      }
      if constexpr (has_statistics(kKind)) {
        if (epilogue_.statistics.kind != Statistics::Kind::none)
          merge_statistics(statistics, conv, row_tile, first_row, channel, consumer);
      }
      if (goes_on) coefficients.make(affine, next);
    }
  }

 private:
  static RK_DEVICE int32_t block_row(int32_t first_row, uint32_t consumer, int32_t block) {
    return first_row + (static_cast<int32_t>(consumer) * kBlocks + block) * kBoxRows;
  }

  static RK_DEVICE uint32_t slab() {
    return warp_of_consumer() * kSlabRows;
  }  // the warp's first row in a box

  // ---- one box: 64 rows from `row` on, 64 channels from `channel` on

  // Coefficient e % 2 of the channels that values e and e + 2 of a fragment belong to, from the lane that
  // loaded it.
  static RK_DEVICE Coefficients of_fragment(const Coefficients& mine, uint32_t chunk) {
    Coefficients theirs;
    const uint32_t from = chunk * 4 + ptx::lane_id() % 4;
    RK_UNROLL
    for (int e = 0; e < 2; ++e) {
      theirs.mean[e] = ptx::shfl_idx(mine.mean[e], from);
      theirs.scale[e] = ptx::shfl_idx(mine.scale[e], from);
      theirs.bias[e] = ptx::shfl_idx(mine.bias[e], from);
    }
    return theirs;
  }

  static RK_DEVICE void apply(const Coefficients& coefficients, uint32_t chunk, float (&values)[8]) {
    RK_UNROLL
    for (uint32_t half = 0; half < 2; ++half) {
      const Coefficients here = of_fragment(coefficients, chunk + half);
      RK_UNROLL
      for (int e = 0; e < 4; ++e) values[4 * half + e] = here.apply(values[4 * half + e], e % 2);
    }
  }

  template <class Accumulator>
  RK_DEVICE void finish_box(const Accumulator& acc, int32_t box, const OutputMaps& maps,
                            const ConvGeometry& conv, int32_t row, int32_t channel, uint32_t consumer,
                            const Coefficients& coefficients, RunningStatistics<2>& statistics) {
    const bool has_residual = boxes_.has_residual(), has_bn_input = boxes_.has_bn_input();
    [[maybe_unused]] typename Boxes::Position residual_at, bn_input_at;
    const uint32_t residual = has_residual ? boxes_.await(consumer, residual_at) : 0;
    const uint32_t bn_input = has_bn_input ? boxes_.await(consumer, bn_input_at) : 0;
    [[maybe_unused]] MaskRows residual_mask, mask;
    if constexpr (kBackward) load_masks(conv, row, channel, residual_mask, mask);

    const uint32_t out = boxes_.begin_output(consumer);
    RK_UNROLL
    for (uint32_t chunk = 0; chunk < kChunksPerRow; chunk += 2) {
      float values[8];
      RK_UNROLL
      for (uint32_t e = 0; e < 8; ++e)
        values[e] = acc.get(static_cast<int>((box * kChunksPerRow + chunk) * 4 + e));
      if constexpr (kKind == EpilogueKind::plain || kKind == EpilogueKind::residual) {
        if (boxes_.has_affine()) apply(coefficients, chunk, values);
      }
      if constexpr (has_sources(kKind)) {
        if (has_residual) {
          float skip[8];
          read_fragment<Format>(residual, slab(), chunk, skip);
          if constexpr (kBackward) residual_mask.apply(chunk, skip);
          RK_UNROLL
          for (int e = 0; e < 8; ++e) values[e] += skip[e];
        }
      }
      if constexpr (kBackward) {
        mask.apply(chunk, values);
        if (has_bn_input && epilogue_.statistics.bn_relu)
          pass_rectified(bn_input, coefficients, chunk, values);
      } else if (epilogue_.relu) {
        RK_UNROLL
        for (float& value : values) value = relu(value);
      }
      uint32_t word[4];
      pack_fragment<Format>(values, word);
      ptx::stmatrix_x4(matrix_row(out, slab(), chunk), word);
    }
    if constexpr (kKind != EpilogueKind::plain) ptx::warp_sync();
    if (has_residual) boxes_.release(consumer, residual_at);
    if constexpr (has_statistics(kKind)) {
      if (epilogue_.statistics.kind != Statistics::Kind::none)
        add_slab(out, bn_input, conv.gemm_m() - row, coefficients, statistics);
    }
    if (has_bn_input) {
      ptx::warp_sync();
      boxes_.release(consumer, bn_input_at);
    }
    boxes_.end_output(maps.y, conv, row, channel, consumer);
  }

  RK_DEVICE void load_masks(const ConvGeometry& conv, int32_t row, int32_t channel, MaskRows& residual_mask,
                            MaskRows& mask) const {
    int64_t pixel[2] = {};
    bool exists[2];
    const bool masked = epilogue_.mask != nullptr || epilogue_.residual_mask != nullptr;
    RK_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int32_t m = row + static_cast<int32_t>(slab() + ptx::lane_id() / 4 + r * 8);
      exists[r] = masked && m < conv.gemm_m();
      if (exists[r]) pixel[r] = conv.output_pixel(static_cast<uint32_t>(m));
    }
    residual_mask.load(epilogue_.residual_mask, pixel, exists, conv.columns, channel);
    mask.load(epilogue_.mask, pixel, exists, conv.columns, channel);
  }

  // Zero where the ReLU behind BatchNorm gave zero: to the bit what forward computed.
  static RK_DEVICE void pass_rectified(uint32_t bn_input, const Coefficients& bn, uint32_t chunk,
                                       float (&values)[8]) {
    float activations[8];
    read_fragment<Format>(bn_input, slab(), chunk, activations);
    apply(bn, chunk, activations);
    uint32_t word[4];
    pack_fragment<Format>(activations, word);
    unpack_fragment<Format>(word, activations);
    apply_mask(passing(activations), values);
  }

  // ---- statistics

  // The warp's rows of a finished box, of which `rows` (counted from the box's first) exist.
  static RK_DEVICE void add_slab(uint32_t out, uint32_t bn_input, int32_t rows, const Coefficients& bn,
                                 RunningStatistics<2>& statistics) {
    const uint32_t lane = ptx::lane_id();
    const auto read = [=](uint32_t box, uint32_t row, float (&values)[2]) {
      const uint32_t address = box + swizzled(row, lane / 4) + lane % 4 * 4;
      Format::unpack_pair(ptx::ld_shared<uint32_t>(address), values[0], values[1]);
    };
    RK_UNROLL
    for (uint32_t i = 0; i < kSlabRows; ++i) {
      const uint32_t row = slab() + i;
      if (static_cast<int32_t>(row) >= rows) break;
      float values[2];
      read(out, row, values);
      if constexpr (kBackward) {
        float inputs[2];
        read(bn_input, row, inputs);
        statistics.add_gradient(values, inputs, bn.mean);
      } else {
        statistics.add_moments(values);
      }
    }
  }

  // Merges the warps' statistics of a box of channels, in their order, and writes them. All consumers.
  RK_DEVICE void merge_statistics(const RunningStatistics<2>& mine, const ConvGeometry& conv,
                                  int64_t row_tile, int32_t first_row, int32_t channel, uint32_t consumer) {
    const Statistics& statistics = epilogue_.statistics;
    const uint32_t scratch = scratch_ + scratch_in_use_ * kScratchBytes;
    const auto slot = [=](uint32_t value, uint32_t warp, uint32_t column) {
      return scratch + ((value * kWarps + warp) * kBoxChannels + column) * 4;
    };
    float values[2][3];
    RK_UNROLL
    for (int e = 0; e < 2; ++e) mine.values(statistics.kind, e, values[e]);
    RK_UNROLL
    for (uint32_t v = 0; v < 3; ++v) {
      const Words2 pair = {{std::bit_cast<uint32_t>(values[0][v]), std::bit_cast<uint32_t>(values[1][v])}};
      ptx::st_shared(slot(v, consumer * 4 + warp_of_consumer(), ptx::lane_id() * 2), pair);
    }
    consumers_barrier();
    // The consumers take turns. Whoever fills this scratch again has met the merging threads once more
    // before.
    const uint32_t thread = ptx::tid_x() - scratch_in_use_ * 128;
    scratch_in_use_ ^= 1;
    if (thread >= kBoxChannels || channel + static_cast<int32_t>(thread) >= conv.columns) return;
    const auto read = [=](uint32_t value, uint32_t warp) {
      return ptx::ld_shared<float>(slot(value, warp, thread));
    };
    float* partials = statistics.partials + row_tile * values_per_channel(statistics.kind) * conv.columns +
                      channel + thread;
    if constexpr (kBackward) {
      float g = 0.f, gx = 0.f;
      for (uint32_t i = 0; i < kWarps; ++i) {
        g += read(0, i);
        gx += read(1, i);
      }
      ptx::st_global(partials, g);
      ptx::st_global(partials + conv.columns, gx);
    } else {
      Moments total = {};
      const int32_t rows = conv.gemm_m() - first_row;
      if (rows >= kRows) {  // all counts are alike: the quotients of Chan's formula are constants
        RK_UNROLL
        for (uint32_t i = 0; i < kWarps; ++i)
          total.merge({static_cast<float>(kRows / kWarps), read(0, i), read(1, i), read(2, i)});
      } else {
        RK_NO_UNROLL
        for (uint32_t i = 0; i < kWarps; ++i)
          total.merge({static_cast<float>(rows_of(i, rows)), read(0, i), read(1, i), read(2, i)});
      }
      ptx::st_global(partials, total.pivot);
      ptx::st_global(partials + conv.columns, total.offset);
      ptx::st_global(partials + 2 * conv.columns, total.m2);
    }
  }

  // How many rows warp i of the consumers has of a tile of which `rows` exist.
  static RK_DEVICE int32_t rows_of(uint32_t i, int32_t rows) {
    int32_t count = 0;
    RK_UNROLL
    for (int32_t block = 0; block < kBlocks; ++block) {
      const int32_t left = rows - block_row(0, i / 4, block) - static_cast<int32_t>(i % 4) * kSlabRows;
      count += left < 0 ? 0 : left < kSlabRows ? left : kSlabRows;
    }
    return count;
  }

  const Epilogue& epilogue_;
  Boxes boxes_;
  uint32_t scratch_;
  uint32_t scratch_in_use_ = 0;
};

}  // namespace rk::tile
