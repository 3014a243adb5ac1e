// The tiles' partial statistics become a tensor's: [row tiles, values, channels] -> [2, channels].
//
//   moments   (pivot, mean - pivot, M2) of the tiles -> mean and M2 over all pixels:
//             mean = mean_0 + sum n_t d_t / N,  M2 = sum M2_t + sum n_t d_t^2 - (sum n_t d_t)^2 / N,
//             d_t = mean_t - mean_0
//   gradient  (sum g, sum g (x - mean)) -> their sums
//
// In float64, whose cost here is nothing and which lets the tiles be added without a division each; the first
// tile's mean is the pivot, so that a large mean costs no digits. A block takes 16 channels, 64 threads a
// channel; each adds every 64th tile, and the threads' sums are added in order. Bytes: the partials once.
#include <array>
#include <bit>
#include <cstdint>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"

namespace rk::sm80 {
namespace {

struct ReduceStatisticsKernel {
  struct Params {
    const float* partials;  // [tiles, kMomentsPerTile or kSumsPerTile, channels]
    float* result;          // [2, channels]
    int64_t tiles;
    int64_t tile_rows;  // pixels of every tile but the last
    int64_t pixels;
    int32_t channels;
    bool moments;
  };

  static constexpr const char* kName = "reduce_statistics";
  static constexpr uint32_t kChannels = 16;
  static constexpr uint32_t kLanes = 64;  // threads that share a channel
  static constexpr uint32_t kThreads = kChannels * kLanes;
  static constexpr uint32_t kMinBlocks = 1;
  static constexpr uint32_t kSums = 3;
  static constexpr uint32_t kSmem = kSums * kThreads * 8;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    const int64_t values = p.moments ? kMomentsPerTile : kSumsPerTile;
    return {{{p.partials, p.tiles * values * p.channels * 4, Role::activation, "partials"},
             {p.result, int64_t{p.channels} * 8, Role::output, "result"}}};
  }

  static RK_DEVICE uint32_t slot(uint32_t sum, uint32_t lane, uint32_t channel) {
    return ptx::smem_base() + ((sum * kLanes + lane) * kChannels + channel) * 8;
  }

  static RK_DEVICE double as_double(const Words2& words) { return std::bit_cast<double>(words); }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t in_block = ptx::tid_x() % kChannels;
    const uint32_t lane = ptx::tid_x() / kChannels;
    const auto channel = static_cast<int32_t>(ptx::ctaid_x() * kChannels + in_block);
    const bool exists = channel < p.channels;

    // Sums over this thread's tiles: (n d, n d^2, M2), or (first, second, nothing).
    double sums[kSums] = {};
    double mean_0 = 0.;
    if (exists) {
      const auto partial = [&](int64_t tile, int value) {
        const int64_t values = p.moments ? kMomentsPerTile : kSumsPerTile;
        return static_cast<double>(
            ptx::ld_global_nc(p.partials + (tile * values + value) * p.channels + channel));
      };
      if (p.moments) mean_0 = partial(0, 0) + partial(0, 1);
      for (int64_t tile = lane; tile < p.tiles; tile += kLanes) {
        if (p.moments) {
          const int64_t rows = p.pixels - tile * p.tile_rows;
          const auto n = static_cast<double>(rows < p.tile_rows ? rows : p.tile_rows);
          const double d = partial(tile, 0) + partial(tile, 1) - mean_0;
          sums[0] += n * d;
          sums[1] += n * d * d;
          sums[2] += partial(tile, 2);
        } else {
          sums[0] += partial(tile, 0);
          sums[1] += partial(tile, 1);
        }
      }
    }
    RK_UNROLL
    for (uint32_t i = 0; i < kSums; ++i)
      ptx::st_shared(slot(i, lane, in_block), std::bit_cast<Words2>(sums[i]));
    ptx::barrier_sync();
    if (lane != 0 || !exists) return;

    for (uint32_t other = 1; other < kLanes; ++other) {
      RK_UNROLL
      for (uint32_t i = 0; i < kSums; ++i)
        sums[i] += as_double(ptx::ld_shared<Words2>(slot(i, other, in_block)));
    }
    if (p.moments) {
      const auto n = static_cast<double>(p.pixels);
      const double m2 = sums[2] + sums[1] - sums[0] * sums[0] / n;
      sums[0] = mean_0 + sums[0] / n;
      sums[1] = m2 > 0. || m2 != m2 ? m2 : 0.;
    }
    ptx::st_global(p.result + channel, static_cast<float>(sums[0]));
    ptx::st_global(p.result + p.channels + channel, static_cast<float>(sums[1]));
  }
};

}  // namespace

void launch_reduce_statistics(const StatisticsReduction& problem) {
  using Kernel = ReduceStatisticsKernel;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((problem.channels + Kernel::kChannels - 1) / Kernel::kChannels)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.partials = problem.partials,
       .result = problem.result,
       .tiles = problem.tiles,
       .tile_rows = problem.tile_rows,
       .pixels = problem.pixels,
       .channels = static_cast<int32_t>(problem.channels),
       .moments = problem.moments});
}

}  // namespace rk::sm80
