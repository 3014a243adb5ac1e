// wgmma: d = a b on tiles that stand in shared memory as the input has them, byte for byte; a from registers
// in some. Tests lay the tiles out by a model of the descriptor, with the same figures.
#pragma once

#include <array>
#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/wgmma.h>

#include "kernels/conformance/harness.h"
#include "kernels/conformance/primitives.h"
#include "machine/matrix_operand.h"
#include "machine/words.h"

namespace rk::conformance_kernels {

using machine::Major;
using machine::MatrixType;
using machine::Swizzle;

// Bytes of a tile of `size` rows or columns and kSteps steps along k, and how the descriptor says it.
constexpr uint32_t kSteps = 2;

template <Swizzle kSwizzle, Major kMajor, uint32_t kSize>
struct TileLayout {
  static constexpr uint32_t kSpan = machine::span_bytes(kSwizzle);
  static constexpr uint32_t kGroup = 8 * kSpan;  // eight rows of a span
  static constexpr bool kPlain = kSwizzle == Swizzle::none;

  // k-major: a row for each m or n, wide enough for both steps, or without swizzle a column of chunks for
  // each chunk along k; mn-major: S / 2 of m or n in a row, a row for each k.
  static_assert(kMajor == Major::k ? kPlain || kSpan >= 64 : !kPlain, "two steps along k are 64 bytes");
  static constexpr uint32_t kDepth = 16 * kSteps;
  static constexpr uint32_t kColumn = kSize * 16;
  static constexpr uint32_t kBytes = kMajor == Major::mn ? (kSize * 2 + kSpan - 1) / kSpan * kSpan * kDepth
                                     : kPlain            ? 2 * kSteps * kColumn
                                                         : kSize * kSpan;
  static RK_DEVICE uint64_t descriptor(uint32_t tile, uint32_t step) {
    if constexpr (kMajor == Major::mn) {
      return machine::matrix_descriptor(kSwizzle, tile + 2 * kGroup * step, kDepth * kSpan, kGroup);
    } else if constexpr (kPlain) {
      return machine::matrix_descriptor(kSwizzle, tile + 2 * kColumn * step, kColumn, kGroup);
    } else {
      return machine::matrix_descriptor(kSwizzle, tile + 32 * step, 0, kGroup);
    }
  }
};

// x: tile a, then tile b (each rounded up to 1024 bytes), then, if a comes from registers, four words a step
// for each thread. y: the accumulators, kN / 2 a thread.
template <MatrixType kType, int kN, Swizzle kSwizzle, Major kA, Major kB, bool kFromRegisters>
struct Wgmma {
  using Params = Buffers;
  using A = TileLayout<kSwizzle, kA, 64>;
  using B = TileLayout<kSwizzle, kB, kN>;
  static constexpr const char* kName = "conformance_wgmma";
  static constexpr uint32_t kThreads = 128, kMinBlocks = 1;
  static constexpr uint32_t kTileA = (A::kBytes + 1023) / 1024 * 1024;
  static constexpr uint32_t kTileB = (B::kBytes + 1023) / 1024 * 1024;
  static constexpr uint32_t kSmem = kTileA + kTileB;
  static constexpr uint32_t kInWords = kSmem / 4 + (kFromRegisters ? 4 * kSteps * kThreads : 0);
  static constexpr uint32_t kOutWords = kThreads * kN / 2;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.in, int64_t{kInWords} * 4, Role::activation, "x"},
             {p.out, int64_t{kOutWords} * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t tid = ptx::tid_x(), a = ptx::smem_base(), b = a + kTileA;
    for (uint32_t i = tid; i < kSmem / 16; i += kThreads) {
      ptx::st_shared(a + 16 * i, ptx::ld_global(reinterpret_cast<const Words4*>(p.in) + i));
    }
    ptx::WgmmaFragment fragment[kSteps];
    if constexpr (kFromRegisters) {
      RK_UNROLL
      for (uint32_t step = 0; step < kSteps; ++step) {
        uint32_t (&words)[4] = fragment[step].registers();
        RK_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
          words[i] = ptx::ld_global(p.in + kSmem / 4 + (step * kThreads + tid) * 4 + i);
        }
      }
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync();
    ptx::WgmmaAccumulator<kN> d;
    ptx::wgmma_fence(d, fragment);
    RK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      if constexpr (kFromRegisters) {
        ptx::wgmma_rs<kType, kB>(d, fragment[step], B::descriptor(b, step), step != 0);
      } else {
        ptx::wgmma_ss<kType, kA, kB>(d, A::descriptor(a, step), B::descriptor(b, step), step != 0);
      }
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(d, fragment);
    RK_UNROLL
    for (int i = 0; i < kN / 2; ++i) {
      ptx::st_global(p.out + tid * (kN / 2) + i, primitives::as_word(d.get(i)));
    }
  }
};

// d = a b where a's 64 rows are an 8 x 8 patch of a larger one: row 8 i + j of a is row kPitch i + j + shift
// of the tile, which is how a 3x3 convolution would read its nine taps from one tile with a halo. The
// descriptor then starts inside a group of eight rows whose swizzle it did not start.
//
// x: the tile of kRows rows, then tile b (each rounded up to 1024 bytes), then four times the shift.
// y: the accumulators, 32 a thread.
struct WgmmaPatch {
  using Params = Buffers;
  using B = TileLayout<Swizzle::span128, Major::k, 64>;
  static constexpr const char* kName = "conformance_wgmma_patch";
  static constexpr uint32_t kThreads = 128, kMinBlocks = 1;
  static constexpr uint32_t kPitch = 10, kRows = kPitch * 10, kRow = 128;
  static constexpr uint32_t kTileA = (kRows * kRow + 1023) / 1024 * 1024, kSmem = kTileA + B::kBytes;
  static constexpr uint32_t kInWords = kSmem / 4 + 4, kOutWords = kThreads * 32;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.in, int64_t{kInWords} * 4, Role::activation, "x"},
             {p.out, int64_t{kOutWords} * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t tid = ptx::tid_x(), a = ptx::smem_base(), b = a + kTileA;
    for (uint32_t i = tid; i < kSmem / 16; i += kThreads) {
      ptx::st_shared(a + 16 * i, ptx::ld_global(reinterpret_cast<const Words4*>(p.in) + i));
    }
    const uint32_t first = a + ptx::ld_global(p.in + kSmem / 4) * kRow;
    ptx::fence_proxy_async();
    ptx::barrier_sync();
    ptx::WgmmaAccumulator<64> d;
    ptx::wgmma_fence(d);
    RK_UNROLL
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint64_t rows = machine::matrix_descriptor(Swizzle::span128, first + 32 * step, 0, kPitch * kRow);
      ptx::wgmma_ss<MatrixType::bf16, Major::k, Major::k>(d, rows, B::descriptor(b, step), step != 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(d);
    RK_UNROLL
    for (int i = 0; i < 32; ++i) ptx::st_global(p.out + tid * 32 + i, primitives::as_word(d.get(i)));
  }
};

template <MatrixType kType, int kN, Swizzle kSwizzle, Major kA, Major kB, bool kFromRegisters = false>
constexpr Entry matrix_entry(const char* name) {
  return words_entry<Wgmma<kType, kN, kSwizzle, kA, kB, kFromRegisters>>(name);
}

}  // namespace rk::conformance_kernels
