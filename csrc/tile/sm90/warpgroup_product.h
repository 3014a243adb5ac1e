// A warpgroup's share of a tile product by wgmma: acc[64 kBlocks x kN] += A[64 kBlocks x 64] B[kN x 64]^T, 64
// being the sixteen-bit elements of a 128-byte row (32 of TF32): one stage of depth.
//
// An operand is a tile of swizzled rows, one for each row or column of acc (Major::k), or, where memory has
// it the other way round, panels of 64 of them with a row for each of the 64 positions of depth (Major::mn).
#pragma once

#include <cstdint>

#include <ptx/wgmma.h>

#include "machine/matrix_operand.h"
#include "tile/swizzle.h"

namespace rk::tile {

template <machine::MatrixType kType, int kBlocks, int kN, machine::Major kMajorB,
          machine::Major kMajorA = machine::Major::k>
class WarpgroupProduct {
  static constexpr uint32_t kGroup = 8 * kRowBytes;  // eight rows, after which the swizzle starts over
  static constexpr uint32_t kDepth = 64;
  static_assert(kMajorA == machine::Major::k || kBlocks == 1, "panels of A hold one block");

 public:
  static constexpr uint32_t kSteps = 4;  // of a stage: wgmma takes 32 bytes of depth
  using Accumulator = ptx::WgmmaAccumulator<kN>;

  RK_DEVICE WarpgroupProduct() {
    RK_UNROLL
    for (Accumulator& acc : acc_) {
      RK_UNROLL
      for (int i = 0; i < Accumulator::kCount; ++i) acc.set(i, 0.f);
    }
  }

  // Starts the multiplication of a stage: tile_a is this warpgroup's first row. The stage is to be left alone
  // until a wait has seen the end of it.
  RK_DEVICE void start(uint32_t tile_a, uint32_t tile_b) {
    ptx::wgmma_fence(acc_);
    RK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint64_t b = descriptor<kMajorB>(tile_b, step);
      RK_UNROLL
      for (uint32_t block = 0; block < kBlocks; ++block) {
        const uint64_t a = descriptor<kMajorA>(tile_a + block * 64 * kRowBytes, step);
        ptx::wgmma_ss<kType, kMajorA, kMajorB>(acc_[block], a, b, true);
      }
    }
    ptx::wgmma_commit();
  }

  // The same with A in registers: a fragment for each step and block.
  using Fragments = ptx::WgmmaFragment[kSteps * kBlocks];
  RK_DEVICE void start(Fragments& fragments, uint32_t tile_b) {
    ptx::wgmma_fence(acc_, fragments);
    RK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint64_t b = descriptor<kMajorB>(tile_b, step);
      RK_UNROLL
      for (uint32_t block = 0; block < kBlocks; ++block)
        ptx::wgmma_rs<kType, kMajorB>(acc_[block], fragments[step * kBlocks + block], b, true);
    }
    ptx::wgmma_commit();
  }

  // All stages but the last one started are done.
  RK_DEVICE void wait_for_previous() { ptx::wgmma_wait<1>(); }

  // All are, and the accumulators can be read.
  RK_DEVICE void wait() { ptx::wgmma_wait<0>(acc_); }

  RK_DEVICE void wait(Fragments& fragments) { ptx::wgmma_wait<0>(acc_, fragments); }

  RK_DEVICE const Accumulator& block(int i) const { return acc_[i]; }

 private:
  template <machine::Major kMajor>
  static RK_DEVICE uint64_t descriptor(uint32_t tile, uint32_t step) {
    if constexpr (kMajor == machine::Major::k) {
      return machine::matrix_descriptor(machine::Swizzle::span128, tile + step * 32, 0, kGroup);
    } else {
      return machine::matrix_descriptor(machine::Swizzle::span128, tile + step * 2 * kGroup,
                                        kDepth * kRowBytes, kGroup);
    }
  }

  Accumulator acc_[kBlocks];
};

}  // namespace rk::tile
