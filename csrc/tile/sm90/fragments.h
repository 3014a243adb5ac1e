// Boxes of 64 channels in the order in which wgmma has them: ldmatrix and stmatrix move 16 rows and 16
// channels, eight values a lane.
//
// With g = lane / 4 and t = lane % 4, values 0 and 1 are row g, channels 2t and 2t + 1 of the first chunk; 2
// and 3 the same of row g + 8; 4 to 7 the same of the second chunk. That is a fragment of A, and two groups
// of eight columns of the accumulators.
#pragma once

#include <cstdint>

#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
#include <ptx/stmatrix.h>

#include "tile/swizzle.h"

namespace rk::tile {

constexpr int kSlabRows = 16;  // of a warp

// The address that ldmatrix and stmatrix want from this lane for chunks `chunk` and `chunk + 1` of the 16
// rows from `row` on.
RK_DEVICE uint32_t matrix_row(uint32_t box, uint32_t row, uint32_t chunk) {
  const uint32_t lane = ptx::lane_id();
  return box + swizzled(row + lane % kSlabRows, chunk + lane / kSlabRows);
}

template <class Format>
RK_DEVICE void unpack_fragment(const uint32_t (&word)[4], float (&values)[8]) {
  RK_UNROLL
  for (int i = 0; i < 4; ++i) Format::unpack_pair(word[i], values[2 * i], values[2 * i + 1]);
}

template <class Format>
RK_DEVICE void pack_fragment(const float (&values)[8], uint32_t (&word)[4]) {
  RK_UNROLL
  for (int i = 0; i < 4; ++i) word[i] = Format::pack_pair(values[2 * i], values[2 * i + 1]);
}

template <class Format>
RK_DEVICE void read_fragment(uint32_t box, uint32_t row, uint32_t chunk, float (&values)[8]) {
  uint32_t word[4];
  ptx::ldmatrix_x4(word, matrix_row(box, row, chunk));
  unpack_fragment<Format>(word, values);
}

// Which bit of 64 channels value e of a fragment has.
RK_DEVICE uint32_t fragment_bit(uint32_t chunk, uint32_t e) {
  return (chunk + e / 4) * 8 + ptx::lane_id() % 4 * 2 + e % 2;
}

// The words of a mask [pixels, ceil(channels / 32)] for 64 channels of a lane's two rows.
struct MaskRows {
  uint32_t word[2][2];

  // Everything passes where there is no mask, no row or no channel.
  RK_DEVICE void load(const uint32_t* mask, const int64_t (&pixel)[2], const bool (&exists)[2],
                      int32_t channels, int32_t channel) {
    const int32_t words = (channels + 31) / 32;
    RK_UNROLL
    for (int r = 0; r < 2; ++r) {
      RK_UNROLL
      for (int i = 0; i < 2; ++i) {
        const bool there = mask != nullptr && exists[r] && channel / 32 + i < words;
        word[r][i] = there ? ptx::ld_global_nc(mask + pixel[r] * words + channel / 32 + i) : ~0u;
      }
    }
  }

  RK_DEVICE void apply(uint32_t chunk, float (&values)[8]) const {
    RK_UNROLL
    for (uint32_t e = 0; e < 8; ++e) {
      const uint32_t bit = fragment_bit(chunk, e);
      if ((word[e / 2 % 2][bit / 32] >> (bit % 32)) % 2 == 0) values[e] = 0.f;
    }
  }
};

}  // namespace rk::tile
