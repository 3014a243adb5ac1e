// One warp's share of a tile product on the tensor cores: acc[M x N] += A[M x 128 bytes] B[N x 128 bytes]^T.
//
// Both operands are K-major tiles of swizzled 128-byte rows. A step takes 32 bytes of K: sixteen 16-bit
// elements (m16n8k16) or eight TF32 elements (m16n8k8); ldmatrix moves words, so the addresses are the same
// for both.
#pragma once

#include <cstdint>

#include <ptx/ids.h>
#include <ptx/ldmatrix.h>

#include "tile/accumulators.h"
#include "tile/swizzle.h"

namespace rk::tile {

// kM x kN outputs a warp. Instruction has Format, operand() and mma().
template <class Instruction, int kM, int kN>
class WarpMma {
  static_assert(kM % 16 == 0 && kN % 16 == 0,
                "a fragment of A has 16 rows, and one ldmatrix.x4 brings 16 rows of B");
  static constexpr int kMmaM = kM / 16;
  static constexpr int kMmaN = kN / 8;
  static constexpr uint32_t kStepBytes = 32;

 public:
  // row_a, row_b: the warp's first row in the two tiles.
  RK_DEVICE WarpMma(uint32_t row_a, uint32_t row_b) {
    const uint32_t lane = ptx::lane_id();
    offset_a_ = swizzled(row_a + lane % 16, lane / 16);
    offset_b_ = swizzled(row_b + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    clear_accumulators(acc_);
  }

  // Multiplies one stage: tiles at shared addresses tile_a and tile_b, both multiples of 1024.
  RK_DEVICE void multiply(uint32_t tile_a, uint32_t tile_b) {
    RK_UNROLL
    for (uint32_t step = 0; step < kRowBytes / kStepBytes; ++step) {
      // Two chunks a step: the step's bits and the swizzle's are both XORed into bits 4 to 6 of the address.
      const uint32_t k_bits = step * kStepBytes;
      uint32_t a[kMmaM][4];
      RK_UNROLL
      for (int i = 0; i < kMmaM; ++i) {
        ptx::ldmatrix_x4(a[i], tile_a + (offset_a_ ^ k_bits) + i * 16 * kRowBytes);
        RK_UNROLL
        for (uint32_t& word : a[i]) word = Instruction::operand(word);
      }
      RK_UNROLL
      for (int j = 0; j < kMmaN; j += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4(b, tile_b + (offset_b_ ^ k_bits) + j * 8 * kRowBytes);
        RK_UNROLL
        for (uint32_t& word : b) word = Instruction::operand(word);
        const uint32_t b_lo[2] = {b[0], b[1]};
        const uint32_t b_hi[2] = {b[2], b[3]};
        RK_UNROLL
        for (int i = 0; i < kMmaM; ++i) {
          Instruction::mma(acc_[i][j], a[i], b_lo);
          Instruction::mma(acc_[i][j + 1], a[i], b_hi);
        }
      }
    }
  }

  // Writes the accumulators to a float32 panel: element (row, column) at panel + (row * pitch + column) * 4.
  RK_DEVICE void store(uint32_t panel, uint32_t pitch, uint32_t row, uint32_t column) const {
    store_accumulators(acc_, panel, pitch, row, column);
  }

 private:
  float acc_[kMmaM][kMmaN][4];
  uint32_t offset_a_, offset_b_;
};

}  // namespace rk::tile
