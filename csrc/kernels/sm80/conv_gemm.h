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
// What is multiplied may be made of the source on load (tile/prologue.h): in fprop x normalised, in dgrad
// BatchNorm's gradient, each with a second source where it has two terms.
//
// One block computes a tile of kTileM GEMM rows (pixels) by kTileN columns (channels of the output). Depth
// advances 128 bytes (64 sixteen-bit or 32 float32 elements) a stage through a ring of kStages stages filled
// by cp.async; warps multiply with mma.sync (bf16, fp16, TF32) or FFMA (strict float32).
//
// Bytes a block requests: depth * (kTileM + kTileN) elements of operands, once (kTileM more for a second
// source); what the epilogue reads and writes, once; what the prologue writes, by the first column of tiles.
// Over the grid the source is asked for taps / stride^2 times per column of tiles, from L2; DRAM sees each
// tensor once.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

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
#include "tile/prologue.h"
#include "tile/warp_product.h"

namespace rk::sm80 {

struct Fprop {
  static constexpr char kName[] = "conv_fprop";
  static constexpr bool kBackward = false;
  static constexpr int kPhases = 1;
};

struct Dgrad {
  static constexpr char kName[] = "conv_dgrad";
  static constexpr bool kBackward = true;
  static constexpr int kPhases = kDgradPhasesPerLaunch;
};

template <class Direction, class Math, class Prologue, class Tile, bool kVector>
struct ConvGemmKernel {
  using Format = typename Math::Format;
  using Element = typename Format::Element;
  static constexpr int kPhases = Direction::kPhases;

  struct Params {
    tile::ConvGeometry conv[kPhases];
    uint32_t first_row_tile[kPhases];  // of each phase, counted over all; phases that do not exist start past
                                       // the grid
    const Element* source;
    const Element* second;  // null, or of the source's shape
    const Element* weight;
    typename Prologue::Params prologue;
    tile::Epilogue epilogue;
  };

  static constexpr auto kNameParts = [] {
    if constexpr (Prologue::kTransforms) {
      return tile::join_names(Direction::kName, Math::kName, Tile::kName, Prologue::kName);
    } else {
      return tile::join_names(Direction::kName, Math::kName, Tile::kName);
    }
  }();
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kWarpsM * Tile::kWarpsN * 32;
  static constexpr uint32_t kMinBlocks =
      Prologue::kSources == 2 ? std::min(Tile::kMinBlocks, 2u) : Tile::kMinBlocks;

  static constexpr int kWarpM = Tile::kTileM / Tile::kWarpsM;
  static constexpr int kWarpN = Tile::kTileN / Tile::kWarpsN;
  static constexpr uint32_t kBytesA = Tile::kTileM * tile::kRowBytes;
  static constexpr uint32_t kBytesB = Tile::kTileN * tile::kRowBytes;
  static constexpr uint32_t kStageBytes = Prologue::kSources * kBytesA + kBytesB;
  // A second source takes the room of a stage, so that as many blocks fit an SM.
  static constexpr int kStages = Prologue::kSources == 2 ? 2 : Tile::kStages;
  static constexpr uint32_t kPanelBytes = tile::kPanelBytes<Tile::kTileM, Tile::kTileN>;
  static constexpr uint32_t kSmem = std::max(kStages * kStageBytes, kPanelBytes);

  static auto spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    const tile::ConvGeometry& conv = p.conv[0];
    const tile::Epilogue& epilogue = p.epilogue;
    const Affine& affine = epilogue.affine;
    const tile::Statistics& statistics = epilogue.statistics;
    const int64_t vector_bytes = int64_t{conv.columns} * 4;
    const int64_t output_bytes = conv.output_elements() * kSize;
    const int64_t mask_bytes = conv.output_elements() / conv.columns * ((conv.columns + 31) / 32) * 4;
    const ResidualView& view = epilogue.residual_view;
    const int64_t residual = tile::residual_elements(view, conv.n, conv.output_elements());
    const int64_t residual_channels = view.channels == 0 ? conv.columns : view.channels;
    const std::array<machine::Span, 15> own = {
        {{p.source, conv.source_elements() * kSize, Role::activation, "x"},
         {p.weight, conv.weight_elements() * kSize, Role::weight, "weight"},
         {epilogue.residual, residual * kSize, Role::activation, "residual"},
         {epilogue.residual_mask, residual / residual_channels * ((residual_channels + 31) / 32) * 4,
          Role::activation, "residual_mask"},
         {epilogue.mask, mask_bytes, Role::activation, "mask"},
         {epilogue.y, output_bytes, Role::output, "y"},
         {statistics.partials,
          statistics.row_tiles * tile::values_per_channel(statistics.kind) * vector_bytes, Role::partial,
          "partials"},
         {statistics.bn_input, output_bytes, Role::activation, "bn_input"},
         {statistics.bn.weight, vector_bytes, Role::vector, "bn_scale"},
         {statistics.bn.bias, vector_bytes, Role::vector, "bn_shift"},
         {statistics.bn.mean, vector_bytes, Role::vector, "bn_mean"},
         {affine.weight, vector_bytes, Role::vector, "scale"},
         {affine.bias, vector_bytes, Role::vector, "shift"},
         {affine.mean, vector_bytes, Role::vector, "mean"},
         {affine.var, vector_bytes, Role::vector, "var"}}};
    const tile::PrologueSpans loads =
        Prologue::spans(p.prologue, conv.source_elements() / conv.channels, conv.channels);
    std::array<machine::Span, own.size() + loads.size()> all = {};
    std::copy(loads.begin(), loads.end(), std::copy(own.begin(), own.end(), all.begin()));
    return all;
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
    const auto tile_a = [=](int32_t stage) { return smem + (stage % kStages) * kStageBytes; };
    const auto tile_b = [=](int32_t stage) { return tile_a(stage) + kBytesA; };
    const auto tile_second = [=](int32_t stage) { return tile_b(stage) + kBytesB; };

    constexpr int32_t kAhead = kStages - 1;
    tile::ConvOperands<Format, Prologue, Tile::kTileM, Tile::kTileN, kThreads, kAhead, kVector> operands(
        conv, p.source, p.second, p.weight, first_row, first_column);
    Prologue prologue(p.prologue, conv.channels, first_column == 0);
    tile::WarpProduct<Math, kWarpM, kWarpN> accumulators(warp_row, warp_column);

    constexpr int32_t kDepthPerStage = tile::kRowBytes / sizeof(Element);
    const int32_t stages = (conv.gemm_k() + kDepthPerStage - 1) / kDepthPerStage;
    const auto load_stage = [&](int32_t stage) {
      if (stage < stages) {
        operands.load(tile_a(stage), tile_b(stage), tile_second(stage));
      } else {
        operands.skip_load();
      }
      ptx::cp_async_commit();  // an empty group at the end, so that the wait below always counts the same
    };

    for (int32_t stage = 0; stage < kAhead; ++stage) load_stage(stage);
    for (int32_t stage = 0; stage < stages; ++stage) {
      if constexpr (Prologue::kTransforms) operands.prepare(prologue);
      ptx::cp_async_wait<kAhead - 1>();  // this thread's part of the stage has landed,
      if constexpr (Prologue::kTransforms) operands.transform(tile_a(stage), tile_second(stage), prologue);
      ptx::barrier_sync();  // everybody's has, and everybody is done with the stage refilled next
      load_stage(stage + kAhead);
      accumulators.multiply(tile_a(stage), tile_b(stage));
    }
    ptx::barrier_sync();  // the panel takes the stages' place

    const tile::EpilogueTile<Format, Tile::kTileM, Tile::kTileN, kThreads, Direction::kBackward> output = {
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

template <class Direction, class Math, class Prologue, class Tile, bool kVector>
void launch_conv_gemm(const ConvGemm& gemm, const typename Prologue::Params& prologue) {
  using Kernel = ConvGemmKernel<Direction, Math, Prologue, Tile, kVector>;
  using Element = typename Kernel::Element;
  typename Kernel::Params params = {.conv = {},
                                    .first_row_tile = {},
                                    .source = static_cast<const Element*>(gemm.source),
                                    .second = static_cast<const Element*>(Prologue::second_source(prologue)),
                                    .weight = static_cast<const Element*>(gemm.weight),
                                    .prologue = prologue,
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

// The instantiations for one prologue; the choice ends in an explicit refusal.
template <class Direction, class Math, class Prologue>
void launch_conv_tile(const ConvGemm& gemm, const typename Prologue::Params& prologue) {
  constexpr bool kFfma = std::is_same_v<Math, tile::Ffma>;
  using Tall = std::conditional_t<kFfma, FfmaTile128x64, Tile128x64>;
  using Small = std::conditional_t<kFfma, FfmaTile64x64, Tile64x64>;
  if (gemm.vector_operands && gemm.tile == ConvTile::t128x64) {
    return launch_conv_gemm<Direction, Math, Prologue, Tall, true>(gemm, prologue);
  }
  if (gemm.vector_operands && gemm.tile == ConvTile::t64x64) {
    return launch_conv_gemm<Direction, Math, Prologue, Small, true>(gemm, prologue);
  }
  if constexpr (!kFfma) {
    if (gemm.vector_operands && gemm.tile == ConvTile::t128x128) {
      return launch_conv_gemm<Direction, Math, Prologue, Tile128x128, true>(gemm, prologue);
    }
  }
  if constexpr (!Prologue::kTransforms) {
    if (gemm.tile == ConvTile::t64x64) {
      return launch_conv_gemm<Direction, Math, Prologue, Small, false>(gemm, prologue);
    }
  }
  throw std::runtime_error(std::string(Direction::kName) + " " + Math::kName + ": no kernel for tile " +
                           std::to_string(static_cast<int>(gemm.tile)) +
                           (gemm.vector_operands ? "" : " and single elements"));
}

template <class Math, bool kResidual>
void launch_conv_normalised(const ConvGemm& gemm) {
  using Prologue = tile::Normalised<typename Math::Format, kResidual>;
  using Element = typename Math::Format::Element;
  const Normalise& normalise = *gemm.normalise;
  launch_conv_tile<Fprop, Math, Prologue>(gemm, {.affine = normalise.affine,
                                                 .residual = static_cast<const Element*>(normalise.residual),
                                                 .a = static_cast<Element*>(gemm.transformed),
                                                 .mask = gemm.transformed_mask,
                                                 .relu = normalise.relu});
}

template <class Math>
void launch_conv_fprop(const ConvGemm& gemm) {
  if (gemm.normalise == nullptr) {
    launch_conv_tile<Fprop, Math, tile::AsIs<typename Math::Format>>(gemm, {});
  } else if (gemm.normalise->residual == nullptr) {
    launch_conv_normalised<Math, false>(gemm);
  } else {
    launch_conv_normalised<Math, true>(gemm);
  }
}

template <class Math>
void launch_conv_dgrad(const ConvGemm& gemm) {
  using Format = typename Math::Format;
  if (gemm.gradient == nullptr) {
    launch_conv_tile<Dgrad, Math, tile::AsIs<Format>>(gemm, {});
  } else {
    launch_conv_tile<Dgrad, Math, tile::BnGradientOf<Format>>(
        gemm, {.gradient = *gemm.gradient, .dy = static_cast<typename Format::Element*>(gemm.transformed)});
  }
}

}  // namespace rk::sm80
