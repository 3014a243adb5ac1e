// One warp's share of a tile product whose depth runs over rows: acc[M x N] += A[depth x M]^T B[depth x N],
// as wgrad needs.
//
// Both operands are panels of swizzled 128-byte rows, one row a depth position, 64 sixteen-bit or 32 float32
// columns a panel. Sixteen-bit fragments come transposed out of ldmatrix; 32-bit ones, which ldmatrix cannot
// transpose, by single words.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/shared.h>

#include "tile/accumulators.h"
#include "tile/format.h"
#include "tile/swizzle.h"

namespace rk::tile {

// Address of column `column` (a multiple of a chunk) at depth `row` in panels of kDepth rows.
template <class Format, int kDepth>
RK_DEVICE uint32_t panel_chunk(uint32_t panels, uint32_t row, uint32_t column) {
  constexpr uint32_t kColumns = kRowBytes / sizeof(typename Format::Element);
  return panels + column / kColumns * (kDepth * kRowBytes) +
         swizzled(row, column % kColumns / Format::kPerChunk);
}

template <class Instruction, int kM, int kN, int kDepth>
class WarpOuterMma {
  using Format = typename Instruction::Format;
  static constexpr bool kWords = Format::kPerChunk == 4;
  static constexpr int kStep = kWords ? 8 : 16;  // depth of one instruction
  static constexpr int kMmaM = kM / 16;
  static constexpr int kMmaN = kN / 8;
  static_assert(kM % 16 == 0 && kN % 16 == 0 && kDepth % kStep == 0,
                "a warp's share is made of whole instructions");

 public:
  // column_a, column_b: the warp's first column in the two operands.
  RK_DEVICE WarpOuterMma(uint32_t column_a, uint32_t column_b) : column_a_(column_a), column_b_(column_b) {
    clear_accumulators(acc_);
  }

  RK_DEVICE void multiply(uint32_t panels_a, uint32_t panels_b) {
    RK_UNROLL
    for (uint32_t depth = 0; depth < kDepth; depth += kStep) {
      uint32_t a[kMmaM][4];
      RK_UNROLL
      for (int i = 0; i < kMmaM; ++i) load_a(a[i], panels_a, depth, column_a_ + i * 16);
      RK_UNROLL
      for (int j = 0; j < kMmaN; j += 2) {
        uint32_t b_lo[2], b_hi[2];
        load_b(b_lo, b_hi, panels_b, depth, column_b_ + j * 8);
        RK_UNROLL
        for (int i = 0; i < kMmaM; ++i) {
          Instruction::mma(acc_[i][j], a[i], b_lo);
          Instruction::mma(acc_[i][j + 1], a[i], b_hi);
        }
      }
    }
  }

  // As WarpMma::store: element (row, column) at panel + (row * pitch + column) * 4.
  RK_DEVICE void store(uint32_t panel, uint32_t pitch, uint32_t row, uint32_t column) const {
    store_accumulators(acc_, panel, pitch, row, column);
  }

 private:
  // The order of the depth within an instruction is free as long as A and B agree: lane t of four takes rows
  // 2t and 2t + 1 in the places of t and t + 4, because the swizzle puts rows 0, 2, 4 and 6 into different
  // banks.
  static RK_DEVICE uint32_t load_word(uint32_t panels, uint32_t depth, uint32_t column) {
    return Instruction::operand(ptx::ld_shared<uint32_t>(
        panel_chunk<Format, kDepth>(panels, depth, column / 4 * 4) + column % 4 * 4));
  }

  static RK_DEVICE void load_a(uint32_t (&a)[4], uint32_t panels, uint32_t depth, uint32_t column) {
    const uint32_t lane = ptx::lane_id();
    if constexpr (kWords) {
      RK_UNROLL
      for (uint32_t e = 0; e < 4; ++e) {
        a[e] = load_word(panels, depth + lane % 4 * 2 + e / 2, column + lane / 4 + e % 2 * 8);
      }
    } else {
      // Matrices: columns 0-7 and 8-15 of depths 0-7, then of depths 8-15.
      ptx::ldmatrix_x4_trans(a, panel_chunk<Format, kDepth>(panels, depth + lane % 8 + lane / 16 * 8,
                                                            column + lane / 8 % 2 * 8));
    }
  }

  // Two fragments of eight columns each.
  static RK_DEVICE void load_b(uint32_t (&lo)[2], uint32_t (&hi)[2], uint32_t panels, uint32_t depth,
                               uint32_t column) {
    const uint32_t lane = ptx::lane_id();
    if constexpr (kWords) {
      RK_UNROLL
      for (uint32_t e = 0; e < 2; ++e) {
        lo[e] = load_word(panels, depth + lane % 4 * 2 + e, column + lane / 4);
        hi[e] = load_word(panels, depth + lane % 4 * 2 + e, column + lane / 4 + 8);
      }
    } else {
      // Matrices: depths 0-7 and 8-15 of columns 0-7, then of columns 8-15.
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b,
                             panel_chunk<Format, kDepth>(panels, depth + lane % 16, column + lane / 16 * 8));
      lo[0] = b[0], lo[1] = b[1], hi[0] = b[2], hi[1] = b[3];
    }
  }

  float acc_[kMmaM][kMmaN][4];
  uint32_t column_a_, column_b_;
};

// Strict float32. Lane l owns the chunks l/8 + 4i of A's columns and l%8 + 8j of B's, four columns each. As
// in warp_ffma.h, a stage is summed by itself before it joins the total.
template <int kM, int kN, int kDepth>
class WarpOuterFfma {
  static constexpr int kChunksM = kM / 16;
  static constexpr int kChunksN = kN / 32;
  static_assert(kM % 16 == 0 && kN % 32 == 0, "a warp's lanes form four rows of eight chunks");

 public:
  RK_DEVICE WarpOuterFfma(uint32_t column_a, uint32_t column_b)
      : column_a_(column_a + ptx::lane_id() / 8 * 4), column_b_(column_b + ptx::lane_id() % 8 * 4) {
    RK_UNROLL
    for (int i = 0; i < 4 * kChunksM; ++i) {
      RK_UNROLL
      for (int j = 0; j < 4 * kChunksN; ++j) acc_[i][j] = 0.f;
    }
  }

  RK_DEVICE void multiply(uint32_t panels_a, uint32_t panels_b) {
    float sum[4 * kChunksM][4 * kChunksN] = {};
    RK_NO_UNROLL
    for (uint32_t depth = 0; depth < kDepth; ++depth) {
      float a[kChunksM][4], b[kChunksN][4];
      RK_UNROLL
      for (int i = 0; i < kChunksM; ++i) {
        unpack<F32>(ptx::ld_shared<Words4>(panel_chunk<F32, kDepth>(panels_a, depth, column_a_ + 16 * i)),
                    a[i]);
      }
      RK_UNROLL
      for (int j = 0; j < kChunksN; ++j) {
        unpack<F32>(ptx::ld_shared<Words4>(panel_chunk<F32, kDepth>(panels_b, depth, column_b_ + 32 * j)),
                    b[j]);
      }
      RK_UNROLL
      for (int i = 0; i < 4 * kChunksM; ++i) {
        RK_UNROLL
        for (int j = 0; j < 4 * kChunksN; ++j)
          sum[i][j] = ptx::fma(a[i / 4][i % 4], b[j / 4][j % 4], sum[i][j]);
      }
    }
    RK_UNROLL
    for (int i = 0; i < 4 * kChunksM; ++i) {
      RK_UNROLL
      for (int j = 0; j < 4 * kChunksN; ++j) acc_[i][j] += sum[i][j];
    }
  }

  RK_DEVICE void store(uint32_t panel, uint32_t pitch, uint32_t row, uint32_t column) const {
    const uint32_t lane = ptx::lane_id();
    const uint32_t first = panel + ((row + lane / 8 * 4) * pitch + column + lane % 8 * 4) * 4;
    RK_UNROLL
    for (int i = 0; i < 4 * kChunksM; ++i) {
      RK_UNROLL
      for (int j = 0; j < kChunksN; ++j) {
        const Words4 words = {
            {std::bit_cast<uint32_t>(acc_[i][4 * j]), std::bit_cast<uint32_t>(acc_[i][4 * j + 1]),
             std::bit_cast<uint32_t>(acc_[i][4 * j + 2]), std::bit_cast<uint32_t>(acc_[i][4 * j + 3])}};
        ptx::st_shared(first + ((i / 4 * 16 + i % 4) * pitch + j * 32) * 4, words);
      }
    }
  }

 private:
  float acc_[4 * kChunksM][4 * kChunksN];
  uint32_t column_a_, column_b_;
};

}  // namespace rk::tile
