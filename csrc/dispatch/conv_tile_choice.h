// The choice of a tile for the convolution kernels: a pure function over a constexpr table, so that it can be
// tested without a GPU.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/sm80/launchers.h"

namespace rk::dispatch {

struct ConvTileTraits {
  sm80::ConvTile tile;
  int64_t m, n;           // GEMM rows and columns
  int64_t blocks_per_sm;  // resident at once on sm_90
  double speed;   // multiply-adds a clock relative to the largest tile: what its shared-memory traffic leaves
  bool ffma;      // has a strict float32 kernel
  bool elements;  // has a kernel for operands without 16-byte rows
};

inline constexpr std::array<ConvTileTraits, 3> kConvTiles = {{
    {sm80::ConvTile::t128x128, 128, 128, 2, 1.0, false, false},
    {sm80::ConvTile::t128x64, 128, 64, 3, 0.67, true, false},
    {sm80::ConvTile::t64x64, 64, 64, 3, 0.5, true, true},
}};

// The tile with the least estimated time: blocks on the busiest SM, each costing its padded area over its
// speed. Ties go to the larger tile, which reads its operands fewer times.
constexpr const ConvTileTraits& choose_conv_tile(int64_t rows, int64_t columns, bool vector_operands,
                                                 bool ffma, int64_t sm_count) {
  const ConvTileTraits* best = nullptr;
  double best_time = 0;
  for (const ConvTileTraits& traits : kConvTiles) {
    if ((ffma && !traits.ffma) || (!vector_operands && !traits.elements)) continue;
    const int64_t blocks = ((rows + traits.m - 1) / traits.m) * ((columns + traits.n - 1) / traits.n);
    // A partly filled last wave spreads over all SMs.
    const int64_t per_wave = sm_count * traits.blocks_per_sm;
    const int64_t on_an_sm =
        blocks / per_wave * traits.blocks_per_sm + (blocks % per_wave + sm_count - 1) / sm_count;
    const double time = static_cast<double>(on_an_sm * traits.m * traits.n) / traits.speed;
    if (best == nullptr || time < best_time) {
      best = &traits;
      best_time = time;
    }
  }
  return *best;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The tile of wgrad's portable kernel: the filters are its rows, a filter's taps and channels its columns.
constexpr sm80::ConvTile choose_wgrad_tile(int64_t filters, int64_t columns, bool vector) {
  return vector && filters > 64 && columns > 64 ? sm80::ConvTile::t128x128 : sm80::ConvTile::t64x64;
}

// How wgrad cuts its pixels: as many ranges as fill the machine with whole waves of blocks, but none shorter
// than eight stages of 64 pixels. A function of shape and machine alone, so that results repeat bit by bit.
struct WgradSplit {
  int64_t splits;
  int64_t pixels_per_split;
};

constexpr WgradSplit split_wgrad(int64_t tiles, int64_t pixels, int64_t blocks_per_sm, int64_t sm_count) {
  constexpr int64_t kDepth = 64;
  const int64_t stages = ceil_div(pixels, kDepth);
  const int64_t fill = sm_count * blocks_per_sm / tiles;
  const int64_t most = (stages + 7) / 8;
  const int64_t wanted = fill < 1 ? 1 : fill < most ? fill : most;
  const int64_t stages_per_split = ceil_div(stages, wanted);
  return {.splits = ceil_div(stages, stages_per_split), .pixels_per_split = stages_per_split * kDepth};
}

}  // namespace rk::dispatch
