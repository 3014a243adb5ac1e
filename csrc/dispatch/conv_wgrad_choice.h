// The choice of a kernel for conv_wgrad: what sm_90's covers, and the least of estimated times. Pure
// functions over a constexpr table, so that they can be tested without a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "api.h"
#include "dispatch/configuration.h"
#include "dispatch/conv_tile_choice.h"
#include "kernels/sm90/launchers.h"

namespace rk::dispatch {

struct WgradTileTraits {
  sm90::WgradTile tile;
  int64_t m, n;    // filters and columns
  int64_t blocks;  // that share their columns' x
};

inline constexpr std::array<WgradTileTraits, 9> kWgradTiles = {{
    {sm90::WgradTile::p128x384, 128, 384, 2},
    {sm90::WgradTile::p128x256, 128, 256, 2},
    {sm90::WgradTile::p128x192, 128, 192, 2},
    {sm90::WgradTile::t128x384, 128, 384, 1},
    {sm90::WgradTile::t256x128, 256, 128, 1},
    {sm90::WgradTile::t128x256, 128, 256, 1},
    {sm90::WgradTile::t128x192, 128, 192, 1},
    {sm90::WgradTile::t64x576, 64, 576, 1},
    {sm90::WgradTile::t64x256, 64, 256, 1},
}};

// Estimates of time count clocks of a multiprocessor that multiplies 2048 pairs of 16-bit elements a clock,
// and that gets 32 bytes a clock from L2 or hands as many to it. Both are estimates, not measurements: they
// rank the ways to do one problem and say nothing about its time.
inline constexpr int64_t kWgradDepth = 64;  // pixels of a stage, for all kernels here
inline constexpr int64_t kMultipliesPerClock = 2048;
inline constexpr int64_t kBytesPerClock = 32;
inline constexpr int64_t kClocksToFill = 1000;  // before the first product of a block

inline constexpr int64_t kClocksToAdd = 64;  // one range more, however few its sums

// Of adding the ranges, by the whole machine.
constexpr int64_t reduction_clocks(int64_t splits, int64_t filters, int64_t columns, int64_t sm_count) {
  return splits * (kClocksToAdd + filters * columns * 4 / (kBytesPerClock * sm_count));
}

// sm_90's way: tile and cut.
struct WgradPlan {
  WgradTileTraits traits;
  int64_t splits;
  int64_t pixels_per_split;
  int64_t clocks;
};

// The tile and the number of ranges with the least estimated time. A unit of work takes the longer of its
// products and its copies, and then writes its sums; each range makes the reduction longer. Considered are
// the numbers of ranges whose units just fit under one to four waves of blocks, one block a multiprocessor.
// chunks: the columns' pieces of 64 channels of one tap.
constexpr WgradPlan choose_wgrad_plan(int64_t filters, int64_t chunks, int64_t columns, int64_t pixels,
                                      int64_t sm_count) {
  WgradPlan best = {};
  const int64_t stages = ceil_div(pixels, kWgradDepth);
  for (const WgradTileTraits& traits : kWgradTiles) {
    const int64_t filter_tiles = ceil_div(filters, traits.m);
    if (filter_tiles % traits.blocks != 0 || sm_count < traits.blocks) continue;
    const int64_t tiles = filter_tiles * ceil_div(chunks, traits.n / 64);
    const int64_t at_once = sm_count / traits.blocks * traits.blocks;
    const int64_t multiply = traits.m * traits.n * kWgradDepth / kMultipliesPerClock;
    // Boxes outside of the tensors are filled without being asked for.
    const int64_t boxes =
        std::min(traits.m / 64, ceil_div(filters, 64)) * traits.blocks + std::min(traits.n / 64, chunks);
    const int64_t copy = boxes * 64 * kWgradDepth * 2 / (kBytesPerClock * traits.blocks);
    for (int64_t waves = 1; waves <= 4; ++waves) {
      const int64_t wanted = std::clamp<int64_t>(waves * at_once / tiles, 1, stages);
      const int64_t stages_per_split = ceil_div(stages, wanted);
      const int64_t splits = ceil_div(stages, stages_per_split);
      const int64_t unit = kClocksToFill + stages_per_split * std::max(multiply, copy) +
                           traits.m * traits.n * 4 / kBytesPerClock;
      const int64_t clocks =
          ceil_div(tiles * splits, at_once) * unit + reduction_clocks(splits, filters, columns, sm_count);
      if (best.clocks == 0 || clocks < best.clocks) {
        best = {.traits = traits,
                .splits = splits,
                .pixels_per_split = stages_per_split * kWgradDepth,
                .clocks = clocks};
      }
    }
  }
  return best;
}

constexpr WgradPlan choose_wgrad_plan(const ConvShape& shape, int64_t sm_count) {
  return choose_wgrad_plan(shape.k, shape.r * shape.s * ceil_div(shape.c, 64), shape.gemm_k(), shape.gemm_m(),
                           sm_count);
}

// Why sm_90's kernel does not normalise on load, or null if it does. An elementwise pass before it moves 4
// bytes an element of x through memory, once: 0.9 ps of the whole GPU's time at 4.3e12 B/s. On load every tap
// normalises each element again, in every row of tiles of filters: 4 bytes of shared memory, which copies and
// wgmma keep busy already, 0.13 ps at 128 bytes a clock and multiprocessor; and on three of four schedulers
// some 40 instructions for 256 elements, 0.2 ps. With nine taps that is 1.2 and 2 ps for every 64 or 128
// filters; with one it is less than the pass up to four rows of tiles, and not much more beyond, where an
// element's products take the longer. All of this is estimated, nothing measured.
constexpr const char* why_not_normalised_on_load(const ConvShape& shape, const WgradPlan& plan) {
  if (shape.r * shape.s != 1 || shape.pad_h != 0 || shape.pad_w != 0)
    return "on load is for one tap without padding; elsewhere an elementwise pass is cheaper";
  return plan.traits.n > sm90::kNormalisedWgradColumns ? "no registers to normalise beside so many columns"
                                                       : nullptr;
}

// At batch 256 on an H200, the 3x3 convolutions of 64, 128 and 256 channels of the ImageNet networks: one
// wave that leaves out no more than six of 132 multiprocessors.
static_assert(choose_wgrad_plan(64, 9, 576, 256 * 56 * 56, 132).splits == 131);
static_assert(choose_wgrad_plan(128, 18, 1152, 256 * 28 * 28, 132).splits == 44);
static_assert(choose_wgrad_plan(256, 36, 2304, 256 * 14 * 14, 132).splits == 7);

// The same estimate for the portable kernel: mma.sync at half of wgmma's rate, and in tiles of 64 x 64 at
// half of that, because fragments pass through registers.
constexpr int64_t portable_wgrad_clocks(const WgradSplit& cut, const Configuration& configuration,
                                        int64_t filters, int64_t columns, int64_t sm_count) {
  const bool large = configuration.rows == 128;
  const int64_t tile = configuration.rows, blocks_per_sm = configuration.blocks_per_sm;
  const int64_t blocks = ceil_div(filters, tile) * ceil_div(columns, tile) * cut.splits;
  const int64_t per_wave = sm_count * blocks_per_sm;
  const int64_t on_an_sm = blocks / per_wave * blocks_per_sm + ceil_div(blocks % per_wave, sm_count);
  const int64_t multiply = tile * tile * kWgradDepth / kMultipliesPerClock * (large ? 2 : 4);
  const int64_t copy = 2 * tile * kWgradDepth * 2 / kBytesPerClock;
  const int64_t unit =
      cut.pixels_per_split / kWgradDepth * std::max(multiply, copy) + tile * tile * 4 / kBytesPerClock;
  return kClocksToFill + on_an_sm * unit + reduction_clocks(cut.splits, filters, columns, sm_count);
}

}  // namespace rk::dispatch
