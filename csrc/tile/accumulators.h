// The accumulators of a warp's m16n8 instructions, whatever fed them.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/ids.h>
#include <ptx/shared.h>

#include "machine/words.h"

namespace rk::tile {

template <int kMmaM, int kMmaN>
RK_DEVICE void clear_accumulators(float (&acc)[kMmaM][kMmaN][4]) {
  RK_UNROLL
  for (int i = 0; i < kMmaM; ++i) {
    RK_UNROLL
    for (int j = 0; j < kMmaN; ++j) {
      RK_UNROLL
      for (int e = 0; e < 4; ++e) acc[i][j][e] = 0.f;
    }
  }
}

// Writes them to a float32 panel from (row, column): element (r, c) at panel + (r * pitch + c) * 4.
template <int kMmaM, int kMmaN>
RK_DEVICE void store_accumulators(const float (&acc)[kMmaM][kMmaN][4], uint32_t panel, uint32_t pitch,
                                  uint32_t row, uint32_t column) {
  const uint32_t lane = ptx::lane_id();
  const uint32_t first = panel + ((row + lane / 4) * pitch + column + lane % 4 * 2) * 4;
  RK_UNROLL
  for (int i = 0; i < kMmaM; ++i) {
    RK_UNROLL
    for (int half = 0; half < 2; ++half) {
      RK_UNROLL
      for (int j = 0; j < kMmaN; ++j) {
        const Words2 pair = {
            {std::bit_cast<uint32_t>(acc[i][j][2 * half]), std::bit_cast<uint32_t>(acc[i][j][2 * half + 1])}};
        ptx::st_shared(first + ((i * 16 + half * 8) * pitch + j * 8) * 4, pair);
      }
    }
  }
}

}  // namespace rk::tile
