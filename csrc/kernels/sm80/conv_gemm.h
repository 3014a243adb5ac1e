// Convolution as an implicit GEMM, forward and backward-data, for sm_80 and everything after it.
//
//   fprop   y[n, p, q, k]  = epilogue(sum over (r, s, c) of x[n, p st + r dil - pad, ..., c] w[k, r, s, c])
//   dgrad   dx[n, h, w, c] = epilogue(sum over (r, s, k) of dy[n, (h + pad - r dil) / st, ..., k] w'[c, r, s,
//   k])
//
// with w' = w with k and c exchanged (krsc_to_crsk.cu), and in dgrad only the taps for which the division is
// exact. Output pixels that share their remainders modulo the stride share their taps: they are a phase, and
// a phase is an implicit GEMM of unit stride that multiplies nothing in vain (dispatch/problem.cpp derives
// it). One launch covers up to four phases.
//
// One block computes a tile of kTileM GEMM rows (pixels) by kTileN columns (channels of the output). Depth
// advances 128 bytes (64 sixteen-bit or 32 float32 elements) a stage through a ring of kStages stages filled
// by cp.async; warps multiply with mma.sync (bf16, fp16, TF32) or FFMA (strict float32).
//
// Bytes a block requests: depth * (kTileM + kTileN) elements of operands, once; what the epilogue reads and
// writes, once. Over the grid the source is asked for taps / stride^2 times per column of tiles, from L2;
// DRAM sees each tensor once.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "kernels/sm80/conv_tiles.h"
#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/epilogue.h"
#include "tile/im2col.h"
#include "tile/name.h"
#include "tile/warp_product.h"

namespace rk::sm80 {

struct Fprop {
  static constexpr char kName[] = "conv_fprop";
  static constexpr int kPhases = 1;
};

struct Dgrad {
  static constexpr char kName[] = "conv_dgrad";
  static constexpr int kPhases = kDgradPhasesPerLaunch;
};

template <class Direction, class Math, class Tile, bool kVector>
struct ConvGemmKernel {
  using Format = typename Math::Format;
  using Element = typename Format::Element;
  static constexpr int kPhases = Direction::kPhases;

  struct Params {
    tile::ConvGeometry conv[kPhases];
    uint32_t first_row_tile[kPhases];  // of each phase, counted over all; phases that do not exist start past
                                       // the grid
    const Element* source;
    const Element* weight;
    tile::Epilogue epilogue;
  };

  static constexpr auto kNameParts = tile::join_names(Direction::kName, Math::kName, Tile::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kWarpsM * Tile::kWarpsN * 32;
  static constexpr uint32_t kMinBlocks = Tile::kMinBlocks;

  static constexpr int kWarpM = Tile::kTileM / Tile::kWarpsM;
  static constexpr int kWarpN = Tile::kTileN / Tile::kWarpsN;
  static constexpr uint32_t kBytesA = Tile::kTileM * tile::kRowBytes;
  static constexpr uint32_t kStageBytes = (Tile::kTileM + Tile::kTileN) * tile::kRowBytes;
  static constexpr uint32_t kPanelBytes = tile::kPanelBytes<Tile::kTileM, Tile::kTileN>;
  static constexpr uint32_t kSmem = std::max(Tile::kStages * kStageBytes, kPanelBytes);

  static std::array<machine::Span, 12> spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    const tile::ConvGeometry& conv = p.conv[0];
    const tile::Epilogue& epilogue = p.epilogue;
    const Affine& affine = epilogue.affine;
    const int64_t vector_bytes = int64_t{conv.columns} * 4;
    const int64_t output_bytes = conv.output_elements() * kSize;
    const int64_t pixels = conv.output_elements() / conv.columns;
    return {{{p.source, conv.source_elements() * kSize, Role::activation, "x"},
             {p.weight, conv.weight_elements() * kSize, Role::weight, "weight"},
             {epilogue.residual, output_bytes, Role::activation, "residual"},
             {epilogue.mask, pixels * ((conv.columns + 31) / 32) * 4, Role::activation, "mask"},
             {epilogue.y, output_bytes, Role::output, "y"},
             {epilogue.statistics.partials, epilogue.statistics.row_tiles * vector_bytes * 2, Role::partial,
              "partials"},
             {epilogue.statistics.bn_input, output_bytes, Role::activation, "bn_input"},
             {epilogue.statistics.mean, vector_bytes, Role::vector, "bn_mean"},
             {affine.weight, vector_bytes, Role::vector, "scale"},
             {affine.bias, vector_bytes, Role::vector, "shift"},
             {affine.mean, vector_bytes, Role::vector, "mean"},
             {affine.var, vector_bytes, Role::vector, "var"}}};
  }

  static RK_DEVICE const tile::ConvGeometry& find_phase(const Params& p, uint32_t row_tile,
                                                        uint32_t& first_row_tile) {
    int phase = 0;
    RK_UNROLL
    for (int i = 1; i < kPhases; ++i) {
      if (row_tile >= p.first_row_tile[i]) phase = i;
    }
    first_row_tile = p.first_row_tile[phase];
    return p.conv[phase];
  }

  static RK_DEVICE void run(const Params& p) {
    // Columns vary fastest over the grid, so that the blocks that share a tile of the source run together.
    const uint32_t column_tiles = (p.conv[0].columns + Tile::kTileN - 1) / Tile::kTileN;
    const uint32_t row_tile = ptx::ctaid_x() / column_tiles;
    uint32_t first_row_tile;
    const tile::ConvGeometry& conv = find_phase(p, row_tile, first_row_tile);
    const auto first_row = static_cast<int32_t>(row_tile - first_row_tile) * Tile::kTileM;
    const auto first_column = static_cast<int32_t>(ptx::ctaid_x() % column_tiles) * Tile::kTileN;
    const int32_t warp_row = static_cast<int32_t>(ptx::warp_id() % Tile::kWarpsM) * kWarpM;
    const int32_t warp_column = static_cast<int32_t>(ptx::warp_id() / Tile::kWarpsM) * kWarpN;

    const uint32_t smem = ptx::smem_base();
    const auto tile_a = [=](int32_t stage) { return smem + (stage % Tile::kStages) * kStageBytes; };
    const auto tile_b = [=](int32_t stage) { return tile_a(stage) + kBytesA; };

    tile::ConvOperands<Format, Tile::kTileM, Tile::kTileN, kThreads, kVector> operands(
        conv, p.source, p.weight, first_row, first_column);
    tile::WarpProduct<Math, kWarpM, kWarpN> accumulators(warp_row, warp_column);

    constexpr int32_t kDepthPerStage = tile::kRowBytes / sizeof(Element);
    const int32_t stages = (conv.gemm_k() + kDepthPerStage - 1) / kDepthPerStage;
    constexpr int32_t kAhead = Tile::kStages - 1;

    const auto load_stage = [&](int32_t stage) {
      if (stage < stages) operands.load(tile_a(stage), tile_b(stage));
      ptx::cp_async_commit();  // an empty group at the end, so that the wait below always counts the same
    };

    for (int32_t stage = 0; stage < kAhead; ++stage) load_stage(stage);
    for (int32_t stage = 0; stage < stages; ++stage) {
      ptx::cp_async_wait<kAhead - 1>();  // this thread's part of the stage has landed,
      ptx::barrier_sync();  // everybody's has, and everybody is done with the stage refilled next
      load_stage(stage + kAhead);
      accumulators.multiply(tile_a(stage), tile_b(stage));
    }
    ptx::barrier_sync();  // the panel takes the stages' place

    const tile::EpilogueTile<Format, Tile::kTileM, Tile::kTileN, kThreads> output = {
        .epilogue = p.epilogue,
        .conv = conv,
        .panel = smem,
        .first_row = first_row,
        .first_column = first_column};
    output.run(static_cast<int32_t>(row_tile), [&](uint32_t panel, uint32_t pitch) {
      accumulators.store(panel, pitch, warp_row, warp_column);
    });
  }
};

template <class Direction, class Math, class Tile, bool kVector>
void launch_conv_gemm(const ConvGemm& gemm) {
  using Kernel = ConvGemmKernel<Direction, Math, Tile, kVector>;
  using Element = typename Kernel::Element;
  typename Kernel::Params params = {.conv = {},
                                    .first_row_tile = {},
                                    .source = static_cast<const Element*>(gemm.source),
                                    .weight = static_cast<const Element*>(gemm.weight),
                                    .epilogue = gemm.epilogue};
  uint32_t row_tiles = 0;
  for (int i = 0; i < Kernel::kPhases; ++i) {
    params.first_row_tile[i] = row_tiles;
    if (i >= gemm.phases) continue;
    params.conv[i] = gemm.conv[i];
    row_tiles += (gemm.conv[i].gemm_m() + Tile::kTileM - 1) / Tile::kTileM;
  }
  const uint32_t column_tiles = (gemm.conv[0].columns + Tile::kTileN - 1) / Tile::kTileN;
  machine::launch<Kernel>({.grid = {.x = row_tiles * column_tiles},
                           .block = Kernel::kThreads,
                           .smem = Kernel::kSmem,
                           .stream = gemm.stream},
                          params);
}

// The instantiations; the choice ends in an explicit refusal.
template <class Direction, class Math>
void launch_conv_mma(const ConvGemm& gemm) {
  if (gemm.vector_operands && gemm.tile == ConvTile::t128x128) {
    launch_conv_gemm<Direction, Math, Tile128x128, true>(gemm);
  } else if (gemm.vector_operands && gemm.tile == ConvTile::t128x64) {
    launch_conv_gemm<Direction, Math, Tile128x64, true>(gemm);
  } else if (gemm.vector_operands && gemm.tile == ConvTile::t64x64) {
    launch_conv_gemm<Direction, Math, Tile64x64, true>(gemm);
  } else if (gemm.tile == ConvTile::t64x64) {
    launch_conv_gemm<Direction, Math, Tile64x64, false>(gemm);
  } else {
    throw std::runtime_error(std::string(Direction::kName) + " " + Math::kName + ": no kernel for tile " +
                             std::to_string(static_cast<int>(gemm.tile)));
  }
}

template <class Direction, class Math>
void launch_conv_ffma(const ConvGemm& gemm) {
  if (gemm.vector_operands && gemm.tile == ConvTile::t128x64) {
    launch_conv_gemm<Direction, Math, FfmaTile128x64, true>(gemm);
  } else if (gemm.vector_operands && gemm.tile == ConvTile::t64x64) {
    launch_conv_gemm<Direction, Math, FfmaTile64x64, true>(gemm);
  } else if (gemm.tile == ConvTile::t64x64) {
    launch_conv_gemm<Direction, Math, FfmaTile64x64, false>(gemm);
  } else {
    throw std::runtime_error(std::string(Direction::kName) + " " + Math::kName + ": no kernel for tile " +
                             std::to_string(static_cast<int>(gemm.tile)));
  }
}

}  // namespace rk::sm80
