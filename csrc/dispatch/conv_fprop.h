// The choice of a tile for conv_fprop: a pure function over a constexpr table, so that it can be tested without a GPU.
#pragma once

#include <array>
#include <cstdint>

#include "api.h"
#include "kernels/sm80/launchers.h"

namespace rk::dispatch {

struct FpropTileTraits {
  sm80::FpropTile tile;
  int64_t m, n;
  int64_t blocks_per_sm;  // resident at once on sm_90
  double speed;           // multiply-adds a clock relative to the largest tile: what its shared-memory traffic leaves
  bool ffma;              // has a strict float32 kernel
  bool elements;          // has a kernel for operands without 16-byte rows
};

inline constexpr std::array<FpropTileTraits, 3> kFpropTiles = {{
    {sm80::FpropTile::t128x128, 128, 128, 2, 1.0, false, false},
    {sm80::FpropTile::t128x64, 128, 64, 3, 0.67, true, false},
    {sm80::FpropTile::t64x64, 64, 64, 3, 0.5, true, true},
}};

// The tile with the least estimated time: whole waves of blocks over the machine, each costing its padded area over its
// speed. Ties go to the larger tile, which reads its operands fewer times.
constexpr sm80::FpropTile choose_fprop_tile(const ConvShape& shape, bool vector_operands, bool ffma, int64_t sm_count) {
  const FpropTileTraits* best = nullptr;
  double best_time = 0;
  for (const FpropTileTraits& traits : kFpropTiles) {
    if ((ffma && !traits.ffma) || (!vector_operands && !traits.elements)) continue;
    const int64_t blocks =
        ((shape.gemm_m() + traits.m - 1) / traits.m) * ((shape.k + traits.n - 1) / traits.n);
    const int64_t per_wave = sm_count * traits.blocks_per_sm;
    // A partly filled last wave still spreads over all SMs: count waves in blocks an SM, not in full waves.
    const int64_t blocks_on_an_sm = blocks <= per_wave ? (blocks + sm_count - 1) / sm_count
                                                       : (blocks / per_wave) * traits.blocks_per_sm +
                                                             (blocks % per_wave + sm_count - 1) / sm_count;
    const double time = static_cast<double>(blocks_on_an_sm * traits.m * traits.n) / traits.speed;
    if (best == nullptr || time < best_time) {
      best = &traits;
      best_time = time;
    }
  }
  return best->tile;
}

}  // namespace rk::dispatch
