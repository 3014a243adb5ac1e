// The time a configuration should take, from counts alone: a pure function, without CUDA and without a clock.
//
//   time = max(memory, feed, math) + launches
//     memory = bytes of HBM / bandwidth: every operand crosses it once
//     feed   = bytes from L2 to shared memory / what L2 delivers: the source once a tap and column of tiles,
//              the weights once a row of tiles, once for all of a cluster's, or once a multiprocessor
//     math   = FLOPs issued / (peak x what shared memory lets through x wave efficiency)
//
// Not in it: latency, epilogues, bank conflicts, what survives in L2 from the kernel before, clocks that
// fall. It ranks configurations; it is no measurement, and a tuned table (tuned_table.h) goes before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "api.h"
#include "dispatch/configuration.h"
#include "dispatch/conv_wgrad_choice.h"

namespace rk::dispatch {

// A GPU in four rates. Assumed, not measured: for an H200 SXM of 132 multiprocessors
//   hbm   4.3e12 B/s, what its memory (4.8e12 on paper) should sustain
//   l2    7e12 B/s into all shared memories together: no vendor states it
//   wgmma 790e12 FLOP/s of dense bfloat16 (989e12 on paper), what the power limit should leave
//   mma   60 % of that: mma.sync's share on Hopper
//   tf32  half of mma: the ratio of the two on paper
//   ffma  60e12 FLOP/s of float32 (67e12 on paper)
// and 3 us from the end of one kernel to the work of the next.
struct Gpu {
  int64_t sm_count;
  double hbm, l2, wgmma, mma, tf32, ffma, launch;
};

// Arithmetic comes with the multiprocessors; memory and cache are the chip's.
constexpr Gpu h200(int64_t sm_count) {
  const double share = static_cast<double>(sm_count) / 132;
  return {.sm_count = sm_count,
          .hbm = 4.3e12,
          .l2 = 7e12,
          .wgmma = 790e12 * share,
          .mma = 0.6 * 790e12 * share,
          .tf32 = 0.3 * 790e12 * share,
          .ffma = 60e12 * share,
          .launch = 3e-6};
}

// What one GEMM asks for, whatever computes it; of dgrad, one a phase of the output.
struct Gemm {
  int64_t rows, columns;
  int64_t taps, channels;

  constexpr int64_t depth() const { return taps * channels; }
};

struct ConvWork {
  Operation operation;
  DType dtype;
  bool tf32;
  int64_t bytes;             // of the operands, each once
  int64_t weights;           // elements
  int64_t sources;           // of what is multiplied: 1, or 2 that make it on load
  int64_t chunks;            // of wgrad's columns: pieces of 64 channels of one tap
  std::vector<Gemm> phases;  // the deepest first; wgrad's: filters x (r s c), over the pixels
};

struct Cost {
  int64_t tiles;      // blocks' worth of work, with those that only fill clusters
  double waves;       // tiles / those that are resident at once
  double efficiency;  // of the waves: all the work / (the busiest multiprocessor's x multiprocessors)
  double memory, feed, math, launches;  // seconds
  double seconds;

  constexpr const char* bound() const {
    if (math >= memory && math >= feed) return "math";
    return memory >= feed ? "memory" : "feed";
  }
};

// The share of its peak that wgmma reaches with a tile: shared memory passes 128 bytes a clock, an m64nNk16
// reads 2 KB of one operand and 32 N bytes of the other in N / 2 clocks, and copies fill what is read next.
// N are the tile's columns; with weights that stay, its rows.
constexpr double wgmma_share(const Configuration& configuration) {
  constexpr double kBytesAClock = 128, kSteps = 4;  // of k16 in a stage of 64
  const bool kept = configuration.keeps_weights();
  const auto rows = static_cast<double>(configuration.rows),
             columns = static_cast<double>(configuration.columns);
  const double n = kept ? rows : columns;
  const double products = (kept ? columns : rows) / 64 * kSteps;
  const double clocks = products * n / 2;
  const double read = products * (2048 + 32 * n);
  const double filled = (rows + (kept ? 0 : columns)) * 128;
  return std::min(1.0, clocks / ((read + filled) / kBytesAClock));
}

// FLOP/s of the whole GPU with this tile.
constexpr double rate(const Configuration& configuration, const ConvWork& work, const Gpu& gpu) {
  if (configuration.kernels == Kernels::sm90) return gpu.wgmma * wgmma_share(configuration);
  const double peak = work.dtype != DType::f32 ? gpu.mma : work.tf32 ? gpu.tf32 : gpu.ffma;
  return peak * configuration.traits().speed;
}

// The depth that is issued: both kernels multiply 128 bytes of it at a time, sm_90's of one tap each.
constexpr int64_t issued_depth(const Configuration& configuration, const Gemm& gemm, DType dtype) {
  const int64_t stage = 128 / element_bytes(dtype);
  if (configuration.kernels == Kernels::sm90) return gemm.taps * ceil_div(gemm.channels, stage) * stage;
  return ceil_div(gemm.depth(), stage) * stage;
}

// The configuration with the tile that is planned for the work.
inline Configuration with_plan(Configuration configuration, const WgradPlan& plan) {
  configuration.rows = plan.traits.m;
  configuration.columns = plan.traits.n;
  return configuration;
}

inline Cost cost(const Configuration& chosen, const ConvWork& work, const Gpu& gpu) {
  WgradPlan plan = {};
  if (chosen.plans_wgrad()) {
    const Gemm& gemm = work.phases.front();
    plan = choose_wgrad_plan(gemm.rows, work.chunks, gemm.columns, gemm.depth(), gpu.sm_count);
  }
  const Configuration configuration = chosen.plans_wgrad() ? with_plan(chosen, plan) : chosen;
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double item = real(element_bytes(work.dtype));
  int64_t tiles = 0, depth = 0, busiest = 0;  // depth: of all tiles, of those of one multiprocessor
  double fed = 0, moved = real(work.bytes);
  for (const Gemm& gemm : work.phases) {
    const int64_t across = ceil_div(gemm.columns, configuration.columns);
    const int64_t cluster = std::max<int64_t>(configuration.cluster, 1);
    const int64_t clusters = ceil_div(gemm.rows, configuration.rows * cluster);
    const int64_t down = clusters * cluster;
    const int64_t loads = configuration.keeps_weights() ? std::min(clusters, gpu.sm_count) : clusters;
    int64_t added = down * across, issued = issued_depth(configuration, gemm, work.dtype);
    if (work.operation == Operation::wgrad) {
      const WgradSplit split =
          chosen.plans_wgrad() ? WgradSplit{.splits = plan.splits, .pixels_per_split = plan.pixels_per_split}
                               : split_wgrad(added, gemm.depth(), configuration.blocks_per_sm, gpu.sm_count);
      added *= split.splits;
      issued = split.pixels_per_split;
      // Partials are written and read.
      moved += 2 * 4 * real(split.splits) * real(gemm.rows) * real(gemm.columns);
    }
    // Tiles go round the multiprocessors, the deepest first: the first of them has the most.
    busiest += issued * (ceil_div(tiles + added, gpu.sm_count) - ceil_div(tiles, gpu.sm_count));
    depth += issued * added;
    tiles += added;
    fed += item * real(gemm.depth()) * (real(work.sources * gemm.rows * across) + real(gemm.columns * loads));
  }
  const double flops = 2 * real(configuration.rows * configuration.columns) * real(depth);
  const double efficiency = busiest == 0 ? 1 : real(depth) / real(busiest * gpu.sm_count);
  int64_t launches = 1;
  if (work.operation == Operation::wgrad) launches = 2;  // splits are added by a second kernel
  if (work.operation == Operation::dgrad && configuration.kernels == Kernels::sm80) {
    // The weights are transposed by a kernel of their own.
    launches = 1 + ceil_div(static_cast<int64_t>(work.phases.size()), sm80::kDgradPhasesPerLaunch);
    moved += 2 * item * real(work.weights);
  }
  Cost found = {.tiles = tiles,
                .waves = real(tiles) / real(gpu.sm_count * configuration.blocks_per_sm),
                .efficiency = efficiency,
                .memory = moved / gpu.hbm,
                .feed = fed / gpu.l2,
                .math = flops / (rate(configuration, work, gpu) * efficiency),
                .launches = real(launches) * gpu.launch,
                .seconds = 0};
  found.seconds = std::max({found.memory, found.feed, found.math}) + found.launches;
  return found;
}

// Whether a is the better choice: the shorter time, and where the same term bounds both, the less of the
// other work, because terms do not overlap as perfectly as max says.
constexpr bool better(const Cost& a, const Cost& b) {
  if (a.seconds != b.seconds) return a.seconds < b.seconds;
  return a.memory + a.feed + a.math < b.memory + b.feed + b.math;
}

}  // namespace rk::dispatch
