// Per-channel statistics of a tile of output, for BatchNorm's training step.
//
//   moments   of y, forward: (pivot, mean - pivot, M2 = sum (y - mean)^2). A thread sums d = y - pivot and
//   d^2
//             with its first value as the pivot; threads and tiles are merged by Chan's formula (Chan, Golub
//             and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances")
//             on differences of pivots. No mean is ever rounded before it is subtracted, so that nothing
//             cancels however large the mean is.
//   gradient  of g, backward: (sum g, sum g (x - mean)), x being BatchNorm's input and mean its batch mean;
//             the mean is subtracted from every element for the same reason.
//
// Order is fixed everywhere: rows within a thread, threads by index, tiles by index in reduce_statistics. No
// atomics.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/math.h>
#include <ptx/shared.h>

#include "tile/affine.h"
#include "tile/epilogue_params.h"

namespace rk::tile {

// A set of n values: its mean is pivot + offset, m2 the sum of squared deviations from it.
struct Moments {
  float n, pivot, offset, m2;

  // Becomes those of the union with a disjoint set.
  RK_DEVICE void merge(const Moments& other) {
    if (other.n == 0.f) return;
    if (n == 0.f) {
      *this = other;
      return;
    }
    const float total = n + other.n;
    const float delta = (other.pivot - pivot) + (other.offset - offset);
    const float share = other.n / total;
    offset = ptx::fma(delta, share, offset);
    m2 = m2 + other.m2 + delta * delta * n * share;
    n = total;
  }
};

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

  RK_DEVICE void add_gradient(const float (&g)[kChannels], const float (&x)[kChannels],
                              const float (&mean)[kChannels]) {
    RK_UNROLL
    for (int e = 0; e < kChannels; ++e) {
      first[e] += g[e];
      second[e] = ptx::fma(g[e], x[e] - mean[e], second[e]);
    }
    count += 1.f;
  }

  // What to hand on for channel e: pivot, mean - pivot and M2, or the two sums as they are.
  RK_DEVICE void values(Statistics::Kind kind, int e, float (&out)[3]) const {
    out[0] = first[e];
    out[1] = second[e];
    out[2] = 0.f;
    if (kind != Statistics::Kind::moments) return;
    const float offset = count > 0.f ? first[e] / count : 0.f;
    const float m2 = second[e] - first[e] * offset;
    out[0] = pivot[e];
    out[1] = offset;
    out[2] = m2 > 0.f || m2 != m2 ? m2 : 0.f;
  }
};

// Shared memory of reduce_tile_statistics: three values a column and a count for each of the kRowThreads
// threads that share a column.
template <int kRowThreads, int kColumns>
constexpr uint32_t kTileStatisticsBytes = kRowThreads * kColumns * 12 + kRowThreads * 4;

// Merges the block's threads (kColumns / kChannels a row, kRowThreads rows) and writes the tile's values:
// partials[row tile][value][column]. All threads call this.
template <int kRowThreads, int kColumns, int kChannels>
RK_DEVICE void reduce_tile_statistics(const Statistics& statistics, const RunningStatistics<kChannels>& mine,
                                      uint32_t shared, int32_t row_tile, int32_t first_column,
                                      int32_t columns) {
  constexpr uint32_t kChunks = kColumns / kChannels;
  const bool moments = statistics.kind == Statistics::Kind::moments;
  const uint32_t counts = shared + kRowThreads * kColumns * 12;
  const uint32_t chunk = ptx::tid_x() % kChunks;
  const uint32_t row = ptx::tid_x() / kChunks;
  // Chunks are fastest, then the channels within them: lanes write next to each other.
  const auto slot = [=](uint32_t value, uint32_t r, uint32_t channel, uint32_t c) {
    return shared + (((value * kRowThreads + r) * kChannels + channel) * kChunks + c) * 4;
  };
  RK_UNROLL
  for (int e = 0; e < kChannels; ++e) {
    float values[3];
    mine.values(statistics.kind, e, values);
    RK_UNROLL
    for (uint32_t v = 0; v < 3; ++v) {
      if (v < 2 || moments) ptx::st_shared(slot(v, row, e, chunk), values[v]);
    }
  }
  // Chunk 0 always exists, so its threads have counted the rows.
  if (chunk == 0) ptx::st_shared(counts + row * 4, mine.count);
  ptx::barrier_sync();

  for (uint32_t column = ptx::tid_x(); column < kColumns; column += kChunks * kRowThreads) {
    if (first_column + static_cast<int32_t>(column) >= columns) break;
    const auto read = [=](uint32_t value, uint32_t r) {
      return ptx::ld_shared<float>(slot(value, r, column % kChannels, column / kChannels));
    };
    float* partials = statistics.partials +
                      int64_t{row_tile} * values_per_channel(statistics.kind) * columns + first_column +
                      column;
    if (moments) {
      Moments total = {};
      for (uint32_t r = 0; r < kRowThreads; ++r)
        total.merge({ptx::ld_shared<float>(counts + r * 4), read(0, r), read(1, r), read(2, r)});
      ptx::st_global(partials, total.pivot);
      ptx::st_global(partials + columns, total.offset);
      ptx::st_global(partials + 2 * columns, total.m2);
    } else {
      float a = 0.f, b = 0.f;
      for (uint32_t r = 0; r < kRowThreads; ++r) {
        a += read(0, r);
        b += read(1, r);
      }
      ptx::st_global(partials, a);
      ptx::st_global(partials + columns, b);
    }
  }
}

}  // namespace rk::tile
