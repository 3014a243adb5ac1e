// What the convolution kernels of sm_90 are told: tensor maps, geometry and, of each phase, where its filters
// lie; and how a block walks over its tiles.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <ptx/ids.h>
#include <ptx/tma.h>

#include "kernels/sm90/format_traits.h"
#include "kernels/sm90/launchers.h"
#include "machine/launch_config.h"
#include "machine/tensor_map.h"
#include "machine/tensor_map_cache.h"
#include "tile/conv_geometry.h"
#include "tile/epilogue_params.h"
#include "tile/sm90/epilogue_boxes.h"
#include "tile/sm90/pixel_boxes.h"

namespace rk::sm90 {

template <tile::EpilogueKind kKind>
constexpr auto& conv_name() {
  if constexpr (kKind == tile::EpilogueKind::plain) {
    return "conv_fprop sm90";
  } else if constexpr (kKind == tile::EpilogueKind::residual) {
    return "conv_fprop sm90 + residual";
  } else if constexpr (kKind == tile::EpilogueKind::moments) {
    return "conv_fprop sm90 + moments";
  } else {
    return "conv_dgrad sm90";
  }
}

// kPhases: fprop has one.
template <int kPhases>
struct ConvParams {
  // Where a phase's filters' taps lie in memory: tap (h, w) is number first + h step_h + w step_w.
  struct Taps {
    int32_t first, step_h, step_w;
  };

  machine::TensorMap source[kPhases];
  machine::TensorMap weight;
  tile::OutputMaps output[kPhases];
  tile::ConvGeometry conv[kPhases];
  Taps taps[kPhases];
  uint32_t first_row_tile[kPhases];  // of each phase in the grid, in whole clusters; those that do not exist
                                     // start past it
  uint32_t first_partial[kPhases];   // of each phase in the statistics' partials, which have no gaps
  uint32_t row_tiles;                // in the grid
  tile::Epilogue epilogue;
  const void* source_data;  // for spans() alone
  const void* weight_data;

  RK_DEVICE int phase_of(uint32_t row_tile) const {
    int phase = 0;
    RK_UNROLL
    for (int i = 1; i < kPhases; ++i) {
      if (row_tile >= first_row_tile[i]) phase = i;
    }
    return phase;
  }

  // All maps in use: one thread, as the kernel starts.
  RK_DEVICE void prefetch_maps() const {
    ptx::prefetch_tensor_map(weight);
    RK_UNROLL
    for (int i = 0; i < kPhases; ++i) {
      if (first_row_tile[i] >= row_tiles) continue;
      if (conv[i].h.taps * conv[i].w.taps != 0) ptx::prefetch_tensor_map(source[i]);
      ptx::prefetch_tensor_map(output[i].y);
      if (epilogue.residual != nullptr) ptx::prefetch_tensor_map(output[i].residual);
      if (epilogue.statistics.bn_input != nullptr) ptx::prefetch_tensor_map(output[i].bn_input);
    }
  }
};

// Fills all but the weights' map. A tile has `tile_rows` rows, a cluster `cluster` tiles below each other, a
// box of the source `source_rows`.
template <int kPhases>
void fill(ConvParams<kPhases>& params, const ConvGemm& gemm, machine::ElementType type, int tile_rows,
          uint32_t cluster, uint32_t source_rows) {
  const tile::Epilogue& epilogue = gemm.epilogue;
  params.source_data = gemm.source;
  params.weight_data = gemm.weight;
  params.epilogue = epilogue;
  uint32_t partials = 0;
  for (int i = 0; i < kPhases; ++i) {
    params.first_row_tile[i] = params.row_tiles;
    params.first_partial[i] = partials;
    if (i >= gemm.phases) continue;
    const tile::ConvGeometry& conv = gemm.conv[i];
    params.conv[i] = conv;
    params.taps[i] = {conv.weight_first / conv.channels, conv.weight_tap_h / conv.channels,
                      conv.weight_tap_w / conv.channels};
    params.source[i] = tile::source_map(type, gemm.source, conv, source_rows);
    params.output[i] = {tile::output_map(type, epilogue.y, conv, tile::kBoxRows),
                        tile::output_map(type, epilogue.residual, conv, tile::kBoxRows),
                        tile::output_map(type, epilogue.statistics.bn_input, conv, tile::kBoxRows)};
    const auto row_tiles = static_cast<uint32_t>((conv.gemm_m() + tile_rows - 1) / tile_rows);
    partials += row_tiles;
    params.row_tiles += (row_tiles + cluster - 1) / cluster * cluster;
  }
}

// The filters [k, taps, c] in boxes of 64 channels of one tap and `filters` filters. In dgrad the GEMM's
// columns are c.
inline machine::TensorMap weight_map(const ConvGemm& gemm, machine::ElementType type, bool backward,
                                     uint32_t filters) {
  const tile::ConvGeometry& conv = gemm.conv[0];
  const auto k = static_cast<uint64_t>(backward ? conv.channels : conv.columns);
  const auto c = static_cast<uint64_t>(backward ? conv.columns : conv.channels);
  const auto taps = static_cast<uint64_t>(gemm.taps);
  return machine::encode_cached({.type = type,
                                 .rank = 3,
                                 .data = gemm.weight,
                                 .extent = {c, taps, k},
                                 .stride = {2 * c, 2 * c * taps},
                                 .box = {tile::kBoxChannels, 1, filters},
                                 .element_stride = {1, 1, 1},
                                 .swizzle = machine::Swizzle::span128});
}

using ConvSpans = std::array<machine::Span, 12>;

template <int kPhases>
ConvSpans spans_of(const ConvParams<kPhases>& p, bool backward) {
  using machine::Role;
  const tile::ConvGeometry& conv = p.conv[0];
  const tile::Epilogue& epilogue = p.epilogue;
  const tile::Statistics& statistics = epilogue.statistics;
  const Affine& affine = backward ? statistics.bn : epilogue.affine;
  const int64_t vector_bytes = int64_t{conv.columns} * 4;
  const int64_t output_bytes = conv.output_elements() * 2;
  const int64_t mask_bytes = conv.output_elements() / conv.columns * ((conv.columns + 31) / 32) * 4;
  return {
      {{p.source_data, conv.source_elements() * 2, Role::activation, "x"},
       {p.weight_data, conv.weight_elements() * 2, Role::weight, "weight"},
       {epilogue.residual, output_bytes, Role::activation, "residual"},
       {epilogue.residual_mask, mask_bytes, Role::activation, "residual_mask"},
       {epilogue.mask, mask_bytes, Role::activation, "mask"},
       {epilogue.y, output_bytes, Role::output, "y"},
       {statistics.partials, statistics.row_tiles * tile::values_per_channel(statistics.kind) * vector_bytes,
        Role::partial, "partials"},
       {statistics.bn_input, output_bytes, Role::activation, "bn_input"},
       {affine.weight, vector_bytes, Role::vector, "scale"},
       {affine.bias, vector_bytes, Role::vector, "shift"},
       {affine.mean, vector_bytes, Role::vector, "mean"},
       {affine.var, vector_bytes, Role::vector, "var"}}};
}

constexpr int kStageDepth = tile::kBoxChannels;  // channels of a stage

// Everything the stages of a block hold, one after the other: of each tile the taps, of each tap the
// channels, kStageDepth at a time. What a tile or a tap decides is found when it begins, not at every stage.
// TileWalk: exists(), advance(), phase(), first_row().
template <class Params, class TileWalk>
class StageWalk {
 public:
  RK_DEVICE StageWalk(const Params& params, const TileWalk& first) : p_(params), tile_(first) {
    begin_tile();
  }

  RK_DEVICE bool exists() const { return tile_.exists(); }
  RK_DEVICE void advance() {
    channel_ += kStageDepth;
    if (channel_ < p_.conv[0].channels) return;  // of all phases
    channel_ = 0;
    tap_ += taps().step_w;
    offset_w_ += conv().w.tap_step;
    if (++w_ < conv().w.taps) return;
    if (++h_ < conv().h.taps) return begin_taps();
    tile_.advance();
    begin_tile();
  }

  RK_DEVICE const TileWalk& tile() const { return tile_; }
  RK_DEVICE int32_t tap() const { return tap_; }  // its number in memory
  RK_DEVICE int32_t channel() const { return channel_; }
  RK_DEVICE void load_source(uint32_t box, uint32_t mbarrier) const {
    rows_.load(box, mbarrier, channel_, offset_h_, offset_w_);
  }

 private:
  RK_DEVICE const tile::ConvGeometry& conv() const { return p_.conv[phase_]; }
  RK_DEVICE const auto& taps() const { return p_.taps[phase_]; }

  // Past tiles of a phase that has no taps.
  RK_DEVICE void begin_tile() {
    for (; tile_.exists(); tile_.advance()) {
      phase_ = tile_.phase();
      if (conv().h.taps * conv().w.taps == 0) continue;
      rows_ = tile::SourceRows(p_.source[phase_], conv(), tile_.first_row());
      h_ = 0;
      return begin_taps();
    }
  }

  // The taps of row h of the window.
  RK_DEVICE void begin_taps() {
    w_ = 0;
    tap_ = taps().first + h_ * taps().step_h;
    offset_h_ = tile::window_offset(conv().h, h_);
    offset_w_ = tile::window_offset(conv().w, 0);
  }

  const Params& p_;
  TileWalk tile_;
  int phase_ = 0;
  tile::SourceRows rows_;
  int32_t h_ = 0, w_ = 0;
  int32_t tap_ = 0, offset_h_ = 0, offset_w_ = 0;
  int32_t channel_ = 0;
};

RK_DEVICE int32_t stages_of(const tile::ConvGeometry& conv) {
  return conv.h.taps * conv.w.taps * ((conv.channels + kStageDepth - 1) / kStageDepth);
}

}  // namespace rk::sm90
