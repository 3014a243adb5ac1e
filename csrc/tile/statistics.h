// Per-channel statistics of a tile of output, for BatchNorm's training step.
//
//   moments   of y, forward: mean and M2 = sum (y - mean)^2. A thread sums d = y - pivot and d^2 with its
//   first value as the
//             pivot, so that nothing cancels however large the mean is; threads are merged by Chan's formula
//             (Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
//             variances").
//   gradient  of g, backward: sum g and sum g (x - mean), x being BatchNorm's input and mean its batch mean;
//   the mean is
//             subtracted from every element for the same reason.
//
// Order is fixed everywhere: rows within a thread, threads by index, tiles by index in bn_finalize. No
// atomics.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/math.h>
#include <ptx/shared.h>

#include "machine/words.h"
#include "tile/epilogue_params.h"

namespace rk::tile {

// (n, mean, M2) of two disjoint sets becomes that of their union, in the first.
RK_DEVICE void merge_moments(float& n, float& mean, float& m2, float other_n, float other_mean,
                             float other_m2) {
  if (other_n == 0.f) return;
  const float total = n + other_n;
  const float delta = other_mean - mean;
  const float share = other_n / total;
  mean = ptx::fma(delta, share, mean);
  m2 = m2 + other_m2 + delta * delta * n * share;
  n = total;
}

// What one thread has seen of its kChannels channels.
template <int kChannels>
struct RunningStatistics {
  float count = 0.f;
  float pivot[kChannels] = {};
  float first[kChannels] = {};   // sum d, or sum g
  float second[kChannels] = {};  // sum d^2, or sum g (x - mean)

  RK_DEVICE void add_moments(const float (&values)[kChannels]) {
    RK_UNROLL
    for (int e = 0; e < kChannels; ++e) {
      if (count == 0.f) pivot[e] = values[e];
      const float d = values[e] - pivot[e];
      first[e] += d;
      second[e] = ptx::fma(d, d, second[e]);
    }
    count += 1.f;
  }

  RK_DEVICE void add_gradient(const float (&g)[kChannels], const float (&x)[kChannels], const float* mean,
                              int32_t channel, int32_t channels) {
    RK_UNROLL
    for (int e = 0; e < kChannels; ++e) {
      const float center = channel + e < channels ? ptx::ld_global_nc(mean + channel + e) : 0.f;
      first[e] += g[e];
      second[e] = ptx::fma(g[e], x[e] - center, second[e]);
    }
    count += 1.f;
  }

  // The pair to hand on for channel e: (mean, M2), or the two sums as they are.
  RK_DEVICE Words2 pair(Statistics::Kind kind, int e) const {
    float a = first[e];
    float b = second[e];
    if (kind == Statistics::Kind::moments && count > 0.f) {
      const float mean_d = first[e] / count;
      a = pivot[e] + mean_d;
      b = second[e] - first[e] * mean_d;
      b = b > 0.f || b != b ? b : 0.f;
    }
    return {{std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b)}};
  }
};

// Shared memory of reduce_tile_statistics: a pair a column and a count for each of the kRowThreads threads
// that share a column.
template <int kRowThreads, int kColumns>
constexpr uint32_t kTileStatisticsBytes = kRowThreads * kColumns * 8 + kRowThreads * 4;

// Merges the block's threads (kColumns / kChannels a row, kRowThreads rows) and writes the tile's pairs. All
// threads call this.
template <int kRowThreads, int kColumns, int kChannels>
RK_DEVICE void reduce_tile_statistics(const Statistics& statistics, const RunningStatistics<kChannels>& mine,
                                      uint32_t shared, int32_t row_tile, int32_t first_column,
                                      int32_t columns) {
  constexpr uint32_t kChunks = kColumns / kChannels;
  const uint32_t counts = shared + kRowThreads * kColumns * 8;
  const uint32_t chunk = ptx::tid_x() % kChunks;
  const uint32_t row = ptx::tid_x() / kChunks;
  // Chunks are fastest, then the channels within them: lanes write next to each other.
  const auto slot = [=](uint32_t r, uint32_t channel, uint32_t c) {
    return shared + ((r * kChannels + channel) * kChunks + c) * 8;
  };
  RK_UNROLL
  for (int e = 0; e < kChannels; ++e) ptx::st_shared(slot(row, e, chunk), mine.pair(statistics.kind, e));
  // Chunk 0 always exists, so its threads have counted the rows.
  if (chunk == 0) ptx::st_shared(counts + row * 4, mine.count);
  ptx::barrier_sync();

  for (uint32_t column = ptx::tid_x(); column < kColumns; column += kChunks * kRowThreads) {
    if (first_column + static_cast<int32_t>(column) >= columns) break;
    float n = 0.f, a = 0.f, b = 0.f;
    for (uint32_t r = 0; r < kRowThreads; ++r) {
      const auto pair = ptx::ld_shared<Words2>(slot(r, column % kChannels, column / kChannels));
      const auto other_a = std::bit_cast<float>(pair.word[0]);
      const auto other_b = std::bit_cast<float>(pair.word[1]);
      if (statistics.kind == Statistics::Kind::moments) {
        merge_moments(n, a, b, ptx::ld_shared<float>(counts + r * 4), other_a, other_b);
      } else {
        a += other_a;
        b += other_b;
      }
    }
    const Words2 total = {{std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b)}};
    ptx::st_global(statistics.partials + int64_t{row_tile} * columns + first_column + column, total);
  }
}

}  // namespace rk::tile
