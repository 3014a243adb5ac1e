// One warp's share of a tile product in strict float32: the same tiles as warp_mma.h, multiplied by FFMA.
//
// Lane l owns rows l/8 + 4i and columns l%8 + 8j. A 16-byte load of A is one address for eight lanes, one of
// B eight rows at one logical chunk, which the swizzle spreads over all banks. Sums run in the order of K.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/ids.h>
#include <ptx/math.h>
#include <ptx/shared.h>

#include "tile/format.h"
#include "tile/swizzle.h"

namespace rk::tile {

template <int kM, int kN>
class WarpFfma {
  static_assert(kM % 4 == 0 && kN % 8 == 0, "a warp's lanes form four rows of eight");
  static constexpr int kRows = kM / 4;
  static constexpr int kColumns = kN / 8;

 public:
  RK_DEVICE WarpFfma(uint32_t row_a, uint32_t row_b)
      : row_a_(row_a + ptx::lane_id() / 8), row_b_(row_b + ptx::lane_id() % 8) {
    RK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      RK_UNROLL
      for (int j = 0; j < kColumns; ++j) acc_[i][j] = 0.f;
    }
  }

  RK_DEVICE void multiply(uint32_t tile_a, uint32_t tile_b) {
    float sum[kRows][kColumns] = {};
    RK_NO_UNROLL
    for (uint32_t chunk = 0; chunk < kChunksPerRow; ++chunk) {
      float a[kRows][4];
      RK_UNROLL
      for (int i = 0; i < kRows; ++i) {
        unpack<F32>(ptx::ld_shared<Words4>(tile_a + swizzled(row_a_ + 4 * i, chunk)), a[i]);
      }
      RK_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        float b[4];
        unpack<F32>(ptx::ld_shared<Words4>(tile_b + swizzled(row_b_ + 8 * j, chunk)), b);
        RK_UNROLL
        for (int i = 0; i < kRows; ++i) {
          RK_UNROLL
          for (int e = 0; e < 4; ++e) sum[i][j] = ptx::fma(a[i][e], b[e], sum[i][j]);
        }
      }
    }
    RK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      RK_UNROLL
      for (int j = 0; j < kColumns; ++j) acc_[i][j] += sum[i][j];
    }
  }

  RK_DEVICE void store(uint32_t panel, uint32_t pitch, uint32_t row, uint32_t column) const {
    const uint32_t lane = ptx::lane_id();
    const uint32_t first = panel + ((row + lane / 8) * pitch + column + lane % 8) * 4;
    RK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      RK_UNROLL
      for (int j = 0; j < kColumns; ++j) ptx::st_shared(first + (4 * i * pitch + 8 * j) * 4, acc_[i][j]);
    }
  }

 private:
  float acc_[kRows][kColumns];
  uint32_t row_a_, row_b_;
};

}  // namespace rk::tile
