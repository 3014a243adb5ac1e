// The end of a convolution on sm_90 whose accumulators lie the other way round: channels down, pixels across.
//
// As box_epilogue.h, with these differences. A thread holds two channels, g and g + 8 of its warp's sixteen,
// and all its coefficients are theirs; the boxes in shared memory are pixels by channels as ever, and
// ldmatrix and stmatrix transpose on the way. Statistics stay in the thread until the tile ends; then the
// four lanes that share two channels merge theirs, and no other warp has any of them.
#pragma once

#include <cstdint>

#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
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

// A consumer's tile: 64 channels from 0 on, kPixels rows of the GEMM.
template <class Format, EpilogueKind kKind, int kPixels>
class TransposedEpilogue {
  using Boxes = EpilogueBoxes<kKind>;
  static constexpr bool kBackward = kKind == EpilogueKind::backward;

 public:
  static constexpr uint32_t kMemory = Boxes::kBoxMemory;
  static constexpr uint32_t kBarrierMemory = Boxes::kBarrierMemory;

  RK_DEVICE TransposedEpilogue(const Epilogue& epilogue, uint32_t memory, uint32_t barriers)
      : epilogue_(epilogue), boxes_(epilogue, memory, barriers) {}

  RK_DEVICE void init() const { boxes_.init(); }
  RK_DEVICE void drain() const { boxes_.drain(); }

  // The producer of a consumer's boxes: one thread.
  RK_DEVICE void load_sources(const OutputMaps& maps, const ConvGeometry& conv, int32_t first_row,
                              uint32_t consumer) {
    for (int32_t box = 0; box < kBoxes; ++box)
      boxes_.load(maps, conv, first_row + box * kBoxRows, 0, consumer);
  }

  // Once, before any tile: the coefficients of the thread's channels.
  RK_DEVICE void begin(const ConvGeometry& conv) {
    RK_UNROLL
    for (int half = 0; half < 2; ++half)
      coefficients_[half].load(kBackward ? epilogue_.statistics.bn : epilogue_.affine, channel(half),
                               conv.columns);
  }

  // All threads of a consumer; row_tile: the tile's place in the statistics' partials.
  template <class Accumulator>
  RK_DEVICE void run(const Accumulator& acc, const OutputMaps& maps, const ConvGeometry& conv,
                     int64_t row_tile, int32_t first_row, uint32_t consumer) {
    [[maybe_unused]] BoxMasks masks[kBoxes];
    if constexpr (kBackward) {
      RK_UNROLL
      for (int32_t box = 0; box < kBoxes; ++box) load_masks(conv, first_row + box * kBoxRows, masks[box]);
    }
    RunningStatistics<2> statistics;
    RK_UNROLL
    for (int32_t box = 0; box < kBoxes; ++box)
      finish_box(acc, box, masks[box], maps, conv, first_row + box * kBoxRows, consumer, statistics);
    if constexpr (has_statistics(kKind)) {
      if (epilogue_.statistics.kind != Statistics::Kind::none)
        merge_statistics(statistics, conv.columns, row_tile);
    }
  }

 private:
  static RK_DEVICE int32_t channel(int half) {
    return static_cast<int32_t>(warp_of_consumer() * 16 + half * 8 + ptx::lane_id() / 4);
  }

  // ---- fragments: sixteen pixels and the warp's sixteen channels
  //
  // Values 0 and 1 are pixels 2t and 2t + 1 of channel g, 2 and 3 the same of channel g + 8, 4 to 7 the same
  // of the next eight pixels.

  static constexpr int kFragmentPixels = 16;

  // Pixel i of a thread's four: where its values are, and where it lies.
  static constexpr int value_of(int i, int half) { return i / 2 * 4 + half * 2 + i % 2; }
  static RK_DEVICE int32_t pixel_of(int i) {
    return i / 2 * 8 + static_cast<int32_t>(ptx::lane_id()) % 4 * 2 + i % 2;
  }

  // The address that ldmatrix and stmatrix want from this lane for the 16 pixels from `pixel` on.
  static RK_DEVICE uint32_t matrix_pixel(uint32_t box, uint32_t pixel) {
    const uint32_t lane = ptx::lane_id();
    return box + swizzled(pixel + lane / 16 * 8 + lane % 8, warp_of_consumer() * 2 + lane / 8 % 2);
  }

  static RK_DEVICE void read_transposed(uint32_t box, uint32_t pixel, float (&values)[8]) {
    uint32_t word[4];
    ptx::ldmatrix_x4_trans(word, matrix_pixel(box, pixel));
    unpack_fragment<Format>(word, values);
  }

  RK_DEVICE void apply(float (&values)[8]) const {
    RK_UNROLL
    for (int e = 0; e < 8; ++e) values[e] = coefficients_[e / 2 % 2].apply(values[e], 0);
  }

  // ---- masks
  //
  // A warp's sixteen channels have one word of each pixel. A lane loads those of pixels `lane` and `lane +
  // 32` of a box, all boxes' before the tile's first one is awaited, and shuffles hand them on.

  static constexpr int kBoxes = kPixels / kBoxRows;
  static constexpr int kLanePixels = kBoxRows / 32;

  struct MaskWords {
    uint32_t word[kLanePixels];

    // Everything passes where there is no mask or no pixel.
    RK_DEVICE void load(const uint32_t* mask, const int64_t (&pixel)[kLanePixels],
                        const bool (&exists)[kLanePixels], int32_t words) {
      const auto at = static_cast<int32_t>(warp_of_consumer() / 2);
      RK_UNROLL
      for (int i = 0; i < kLanePixels; ++i) {
        const bool there = mask != nullptr && exists[i] && at < words;
        word[i] = there ? ptx::ld_global_nc(mask + pixel[i] * words + at) : ~0u;
      }
    }

    // first: the fragment's first pixel in the box. All lanes.
    RK_DEVICE void apply(int32_t first, float (&values)[8]) const {
      RK_UNROLL
      for (int i = 0; i < 4; ++i) {
        const uint32_t bits = ptx::shfl_idx(word[first / 32], first % 32 + pixel_of(i));
        RK_UNROLL
        for (int half = 0; half < 2; ++half) {
          if ((bits >> (channel(half) % 32)) % 2 == 0) values[value_of(i, half)] = 0.f;
        }
      }
    }
  };

  struct BoxMasks {
    MaskWords residual, own;
  };

  RK_DEVICE void load_masks(const ConvGeometry& conv, int32_t row, BoxMasks& masks) const {
    int64_t pixel[kLanePixels] = {};
    bool exists[kLanePixels];
    const bool masked = epilogue_.mask != nullptr || epilogue_.residual_mask != nullptr;
    RK_UNROLL
    for (int i = 0; i < kLanePixels; ++i) {
      const int32_t m = row + static_cast<int32_t>(ptx::lane_id()) + 32 * i;
      exists[i] = masked && m < conv.gemm_m();
      if (exists[i]) pixel[i] = conv.output_pixel(static_cast<uint32_t>(m));
    }
    const int32_t words = (conv.columns + 31) / 32;
    masks.residual.load(epilogue_.residual_mask, pixel, exists, words);
    masks.own.load(epilogue_.mask, pixel, exists, words);
  }

  // ---- one box: 64 pixels from GEMM row `row` on

  template <class Accumulator>
  RK_DEVICE void finish_box(const Accumulator& acc, int32_t box, const BoxMasks& masks,
                            const OutputMaps& maps, const ConvGeometry& conv, int32_t row, uint32_t consumer,
                            RunningStatistics<2>& statistics) {
    const bool has_residual = boxes_.has_residual(), has_bn_input = boxes_.has_bn_input();
    [[maybe_unused]] typename Boxes::Position residual_at, bn_input_at;
    const uint32_t residual = has_residual ? boxes_.await(consumer, residual_at) : 0;
    const uint32_t bn_input = has_bn_input ? boxes_.await(consumer, bn_input_at) : 0;
    const uint32_t out = boxes_.begin_output(consumer);
    RK_UNROLL
    for (int32_t first = 0; first < kBoxRows; first += kFragmentPixels) {
      const auto pixel = static_cast<uint32_t>(first);
      float values[8];
      RK_UNROLL
      for (int e = 0; e < 8; ++e) values[e] = acc.get((box * kBoxRows + first) / 2 + e);
      if constexpr (kKind == EpilogueKind::plain || kKind == EpilogueKind::residual) {
        if (boxes_.has_affine()) apply(values);
      }
      if constexpr (has_sources(kKind)) {
        if (has_residual) {
          float skip[8];
          read_transposed(residual, pixel, skip);
          if constexpr (kBackward) {
            if (epilogue_.residual_mask != nullptr) masks.residual.apply(first, skip);
          }
          RK_UNROLL
          for (int e = 0; e < 8; ++e) values[e] += skip[e];
        }
      }
      [[maybe_unused]] float inputs[8];
      if constexpr (kBackward) {
        if (epilogue_.mask != nullptr) masks.own.apply(first, values);
        if (has_bn_input) {
          read_transposed(bn_input, pixel, inputs);
          if (epilogue_.statistics.bn_relu) pass_rectified(inputs, values);
        }
      } else if (epilogue_.relu) {
        RK_UNROLL
        for (float& value : values) value = relu(value);
      }
      uint32_t word[4];
      pack_fragment<Format>(values, word);
      ptx::stmatrix_x4_trans(matrix_pixel(out, pixel), word);
      if constexpr (has_statistics(kKind)) {
        if (epilogue_.statistics.kind != Statistics::Kind::none) {
          unpack_fragment<Format>(word, values);
          add(values, inputs, conv.gemm_m() - row - first, statistics);
        }
      }
    }
    if (has_residual || has_bn_input) ptx::warp_sync();
    if (has_residual) boxes_.release(consumer, residual_at);
    if (has_bn_input) boxes_.release(consumer, bn_input_at);
    boxes_.end_output(maps.y, conv, row, 0, consumer);
  }

  // Zero where the ReLU behind BatchNorm gave zero: to the bit what forward computed.
  RK_DEVICE void pass_rectified(const float (&inputs)[8], float (&values)[8]) const {
    float activations[8];
    RK_UNROLL
    for (int e = 0; e < 8; ++e) activations[e] = inputs[e];
    apply(activations);
    uint32_t word[4];
    pack_fragment<Format>(activations, word);
    unpack_fragment<Format>(word, activations);
    apply_mask(passing(activations), values);
  }

  // ---- statistics

  // Of a fragment's pixels those of the first `rows` (counted from the fragment's first).
  RK_DEVICE void add(const float (&values)[8], const float (&inputs)[8], int32_t rows,
                     RunningStatistics<2>& statistics) const {
    RK_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (pixel_of(i) >= rows) continue;
      const float pair[2] = {values[value_of(i, 0)], values[value_of(i, 1)]};
      if constexpr (kBackward) {
        const float input[2] = {inputs[value_of(i, 0)], inputs[value_of(i, 1)]};
        const float mean[2] = {coefficients_[0].mean[0], coefficients_[1].mean[0]};
        statistics.add_gradient(pair, input, mean);
      } else {
        statistics.add_moments(pair);
      }
    }
  }

  // Of the four lanes that share channels the first one merges, in a fixed order, and writes.
  RK_DEVICE void merge_statistics(const RunningStatistics<2>& mine, int32_t columns, int64_t row_tile) const {
    const Statistics& statistics = epilogue_.statistics;
    float* partials = statistics.partials + row_tile * values_per_channel(statistics.kind) * columns;
    RK_UNROLL
    for (int half = 0; half < 2; ++half) {
      float value[3];
      mine.values(statistics.kind, half, value);
      Moments moments = {mine.count, value[0], value[1], value[2]};
      float g = value[0], gx = value[1];
      RK_UNROLL
      for (uint32_t distance = 1; distance < 4; distance *= 2) {
        if constexpr (kBackward) {
          g += ptx::shfl_xor(g, distance);
          gx += ptx::shfl_xor(gx, distance);
        } else {
          moments.merge({ptx::shfl_xor(moments.n, distance), ptx::shfl_xor(moments.pivot, distance),
                         ptx::shfl_xor(moments.offset, distance), ptx::shfl_xor(moments.m2, distance)});
        }
      }
      if (ptx::lane_id() % 4 != 0 || channel(half) >= columns) continue;
      float* out = partials + channel(half);
      if constexpr (kBackward) {
        ptx::st_global(out, g);
        ptx::st_global(out + columns, gx);
      } else {
        ptx::st_global(out, moments.pivot);
        ptx::st_global(out + columns, moments.offset);
        ptx::st_global(out + 2 * columns, moments.m2);
      }
    }
  }

  const Epilogue& epilogue_;
  Boxes boxes_;
  ChannelAffine<1> coefficients_[2];
};

}  // namespace rk::tile
