// Gradient of the weights, for sm_80 and everything after it.
//
//   dw[k, r, s, c] = sum over pixels m = (n, p, q) of dy[m, k] x[n, p st + r dil - pad, ..., c]
//
// where x may be normalised on load (tile/prologue.h), so that the activation need not be kept.
//
// A GEMM whose depth is the pixels: GEMM rows are filters, columns are (r, s, c) with c fastest, so that a
// tile may span taps and dy is loaded once for all of them. The pixels are cut into a fixed number of ranges,
// chosen from shape and machine alone; each block sums one range of one tile and writes it in float32;
// reduce_splits then adds the ranges in order. No atomics: the same bits every time.
//
// Bytes a block requests: its pixels * (kTile + kTile) elements; over the grid dy once per column of tiles
// and x once per row of tiles; partials splits * k * r s c * 4, written and read once.
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

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/epilogue.h"
#include "tile/name.h"
#include "tile/pixel_rows.h"
#include "tile/prologue.h"
#include "tile/warp_product.h"

namespace rk::sm80 {

// A block computes kTile filters by kTile columns.
struct WgradTile128 {
  static constexpr char kName[] = "128x128";
  static constexpr int kTile = 128, kWarpsM = 2, kWarpsN = 2, kStages = 3;
  static constexpr uint32_t kMinBlocks = 2;
};

// FFMA keeps 64 totals and 64 sums of the stage a thread, so the tile takes twice the threads.
struct WgradFfmaTile128 {
  static constexpr char kName[] = "128x128";
  static constexpr int kTile = 128, kWarpsM = 4, kWarpsN = 2, kStages = 3;
  static constexpr uint32_t kMinBlocks = 1;
};

struct WgradTile64 {
  static constexpr char kName[] = "64x64";
  static constexpr int kTile = 64, kWarpsM = 2, kWarpsN = 2, kStages = 3;
  static constexpr uint32_t kMinBlocks = 3;
};

template <class Math, class Prologue, class Tile, bool kVector>
struct ConvWgradKernel {
  using Format = typename Math::Format;
  using Element = typename Format::Element;

  struct Params {
    tile::ConvGeometry conv;  // of fprop
    const Element* x;
    typename Prologue::Params prologue;
    const Element* dy;
    float* partials;  // [splits, k, r s c]
    int32_t pixels_per_split;
    int32_t splits;
  };

  static constexpr auto kNameParts = [] {
    if constexpr (Prologue::kTransforms) {
      return tile::join_names("conv_wgrad", Math::kName, Tile::kName, Prologue::kName);
    } else {
      return tile::join_names("conv_wgrad", Math::kName, Tile::kName);
    }
  }();
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kWarpsM * Tile::kWarpsN * 32;
  static constexpr uint32_t kMinBlocks = Tile::kMinBlocks;

  static constexpr int kDepth = tile::kRowBytes / sizeof(Element);  // pixels a stage
  static constexpr int kWarpM = Tile::kTile / Tile::kWarpsM;
  static constexpr int kWarpN = Tile::kTile / Tile::kWarpsN;
  static constexpr uint32_t kOperandBytes = kDepth * Tile::kTile * sizeof(Element);
  static constexpr uint32_t kStageBytes = 2 * kOperandBytes;
  static constexpr uint32_t kPanelBytes = tile::kPanelBytes<Tile::kTile, Tile::kTile>;
  static constexpr uint32_t kSmem = std::max(Tile::kStages * kStageBytes, kPanelBytes);

  static auto spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    const tile::PrologueSpans loads =
        Prologue::spans(p.prologue, p.conv.source_elements() / p.conv.channels, p.conv.channels);
    std::array<machine::Span, 3 + loads.size()> all = {
        {{p.x, p.conv.source_elements() * kSize, Role::activation, "x"},
         {p.dy, p.conv.output_elements() * kSize, Role::activation, "dy"},
         {p.partials, p.splits * p.conv.weight_elements() * 4, Role::partial, "partials"}}};
    std::copy(loads.begin(), loads.end(), all.begin() + 3);
    return all;
  }

  static RK_DEVICE void run(const Params& p) {
    const tile::ConvGeometry& conv = p.conv;
    const auto first_filter = static_cast<int32_t>(ptx::ctaid_y()) * Tile::kTile;
    const auto first_column = static_cast<int32_t>(ptx::ctaid_x()) * Tile::kTile;
    const auto split = static_cast<int32_t>(ptx::ctaid_z());
    const int32_t first_pixel = split * p.pixels_per_split;
    const int32_t left = conv.gemm_m() - first_pixel;
    const int32_t pixels = left < p.pixels_per_split ? left : p.pixels_per_split;
    const int32_t warp_row = static_cast<int32_t>(ptx::warp_id() % Tile::kWarpsM) * kWarpM;
    const int32_t warp_column = static_cast<int32_t>(ptx::warp_id() / Tile::kWarpsM) * kWarpN;

    const uint32_t smem = ptx::smem_base();
    const auto panels_dy = [=](int32_t stage) { return smem + (stage % Tile::kStages) * kStageBytes; };
    const auto panels_x = [=](int32_t stage) { return panels_dy(stage) + kOperandBytes; };

    tile::GradientRows<Format, Tile::kTile, kDepth, kThreads, kVector> dy(conv, p.dy, first_filter);
    constexpr int32_t kAhead = Tile::kStages - 1;
    tile::WindowRows<Format, Prologue, Tile::kTile, kDepth, kThreads, kAhead, kVector> x(conv, p.x,
                                                                                         first_column);
    Prologue prologue(p.prologue, conv.channels, false);
    if constexpr (Prologue::kTransforms) x.prepare(prologue);
    tile::WarpOuterProduct<Math, kWarpM, kWarpN, kDepth> accumulators(warp_row, warp_column);

    const int32_t stages = (pixels + kDepth - 1) / kDepth;
    const auto load_stage = [&](int32_t stage) {
      if (stage < stages) {
        const int32_t pixel = first_pixel + stage * kDepth;
        dy.load(panels_dy(stage), pixel, first_pixel + pixels);
        x.load(panels_x(stage), pixel, first_pixel + pixels);
      } else {
        x.skip_load();
      }
      ptx::cp_async_commit();  // an empty group at the end, so that the wait below always counts the same
    };

    for (int32_t stage = 0; stage < kAhead; ++stage) load_stage(stage);
    for (int32_t stage = 0; stage < stages; ++stage) {
      ptx::cp_async_wait<kAhead - 1>();  // this thread's part of the stage has landed,
      if constexpr (Prologue::kTransforms) x.transform(panels_x(stage), prologue);
      ptx::barrier_sync();  // everybody's has, and everybody is done with the stage refilled next
      load_stage(stage + kAhead);
      accumulators.multiply(panels_dy(stage), panels_x(stage));
    }
    ptx::barrier_sync();  // the panel takes the stages' place
    accumulators.store(smem, tile::kPanelPitch<Tile::kTile>, warp_row, warp_column);
    ptx::barrier_sync();

    const int32_t columns = conv.gemm_k();
    float* partial = p.partials + (int64_t{split} * conv.columns + first_filter) * columns + first_column;
    for (uint32_t i = ptx::tid_x(); i < Tile::kTile * Tile::kTile; i += kThreads) {
      const auto row = static_cast<int32_t>(i / Tile::kTile);
      const auto column = static_cast<int32_t>(i % Tile::kTile);
      if (first_filter + row >= conv.columns || first_column + column >= columns) continue;
      const auto value = ptx::ld_shared<float>(smem + (row * tile::kPanelPitch<Tile::kTile> + column) * 4);
      ptx::st_global(partial + int64_t{row} * columns + column, value);
    }
  }
};

template <class Math, class Prologue, class Tile, bool kVector>
void launch_conv_wgrad_tile(const WgradGemm& gemm, const typename Prologue::Params& prologue) {
  using Kernel = ConvWgradKernel<Math, Prologue, Tile, kVector>;
  using Element = typename Kernel::Element;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((gemm.conv.gemm_k() + Tile::kTile - 1) / Tile::kTile),
                .y = static_cast<uint32_t>((gemm.conv.columns + Tile::kTile - 1) / Tile::kTile),
                .z = static_cast<uint32_t>(gemm.splits)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = gemm.stream},
      {.conv = gemm.conv,
       .x = static_cast<const Element*>(gemm.x),
       .prologue = prologue,
       .dy = static_cast<const Element*>(gemm.dy),
       .partials = gemm.partials,
       .pixels_per_split = gemm.pixels_per_split,
       .splits = gemm.splits});
}

template <class Math, class Prologue>
void launch_conv_wgrad_of(const WgradGemm& gemm, const typename Prologue::Params& prologue) {
  using LargeTile = std::conditional_t<std::is_same_v<Math, tile::Ffma>, WgradFfmaTile128, WgradTile128>;
  if (gemm.large_tile && gemm.vector) {
    return launch_conv_wgrad_tile<Math, Prologue, LargeTile, true>(gemm, prologue);
  }
  if (gemm.vector) return launch_conv_wgrad_tile<Math, Prologue, WgradTile64, true>(gemm, prologue);
  if constexpr (!Prologue::kTransforms) {
    if (!gemm.large_tile) {
      return launch_conv_wgrad_tile<Math, Prologue, WgradTile64, false>(gemm, prologue);
    }
  }
  throw std::runtime_error(std::string("conv_wgrad ") + Math::kName +
                           ": single elements have no large tile and no normalisation on load");
}

template <class Math>
void launch_conv_wgrad(const WgradGemm& gemm) {
  using Format = typename Math::Format;
  if (gemm.normalise == nullptr) {
    launch_conv_wgrad_of<Math, tile::AsIs<Format>>(gemm, {});
  } else {
    launch_conv_wgrad_of<Math, tile::Normalised<Format, false>>(gemm, {.affine = gemm.normalise->affine,
                                                                       .residual = nullptr,
                                                                       .a = nullptr,
                                                                       .mask = nullptr,
                                                                       .relu = gemm.normalise->relu});
  }
}

}  // namespace rk::sm80
