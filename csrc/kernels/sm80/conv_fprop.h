// Forward convolution as an implicit GEMM, for sm_80 and everything after it.
//
//   y[m, k] = round(relu?(affine(sum over (r, s, c) of x[n, p stride + r dilation - pad, ..., c] w[k, r, s, c]) + residual))
//
// with m = (n, p, q). One block computes a tile of kTileM pixels by kTileN filters. Depth advances 128 bytes (64 sixteen-bit
// or 32 float32 elements) a stage through a ring of kStages stages filled by cp.async; warps multiply with mma.sync (bf16,
// fp16, TF32) or FFMA (strict float32).
//
// Bytes a block requests: depth * (kTileM + kTileN) elements of operands, once; residual and output once. Over the grid the
// activations are asked for R S / stride^2 times per column of tiles, from L2; DRAM sees each tensor once.
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

#include "kernels/sm80/conv_fprop_tiles.h"
#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/epilogue.h"
#include "tile/im2col.h"
#include "tile/name.h"

namespace rk::sm80 {

template <class Math, class Tile, bool kVector>
struct ConvFpropKernel {
  using Format = typename Math::Format;
  using Element = typename Format::Element;

  struct Params {
    tile::ConvGeometry conv;
    const Element* x;
    const Element* weight;
    tile::Epilogue epilogue;
  };

  static constexpr auto kNameParts = tile::join_names("conv_fprop", Math::kName, Tile::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kWarpsM * Tile::kWarpsN * 32;
  static constexpr uint32_t kMinBlocks = Tile::kMinBlocks;

  static constexpr int kWarpM = Tile::kTileM / Tile::kWarpsM;
  static constexpr int kWarpN = Tile::kTileN / Tile::kWarpsN;
  static constexpr uint32_t kBytesA = Tile::kTileM * tile::kRowBytes;
  static constexpr uint32_t kStageBytes = (Tile::kTileM + Tile::kTileN) * tile::kRowBytes;
  static constexpr uint32_t kPanelBytes = tile::kPanelBytes<Tile::kTileM, Tile::kTileN>;
  static constexpr uint32_t kSmem = std::max(Tile::kStages * kStageBytes, kPanelBytes);

  static std::array<machine::Span, 8> spans(const Params& p) {
    using machine::Role;
    const tile::Epilogue& epilogue = p.epilogue;
    const Affine& affine = epilogue.affine;
    constexpr int64_t kSize = sizeof(Element);
    const int64_t vector_bytes = int64_t{p.conv.columns} * 4;
    return {{{p.x, p.conv.source_elements() * kSize, Role::activation, "x"},
             {p.weight, p.conv.weight_elements() * kSize, Role::weight, "weight"},
             {epilogue.residual, p.conv.output_elements() * kSize, Role::activation, "residual"},
             {epilogue.y, p.conv.output_elements() * kSize, Role::output, "y"},
             {affine.weight, vector_bytes, Role::vector, "scale"},
             {affine.bias, vector_bytes, Role::vector, "shift"},
             {affine.mean, vector_bytes, Role::vector, "mean"},
             {affine.var, vector_bytes, Role::vector, "var"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    // Filters vary fastest over the grid, so that the blocks that share a tile of activations run together.
    const uint32_t tiles_n = (p.conv.columns + Tile::kTileN - 1) / Tile::kTileN;
    const auto first_m = static_cast<int32_t>(ptx::ctaid_x() / tiles_n) * Tile::kTileM;
    const auto first_k = static_cast<int32_t>(ptx::ctaid_x() % tiles_n) * Tile::kTileN;
    const int32_t warp_row = static_cast<int32_t>(ptx::warp_id() % Tile::kWarpsM) * kWarpM;
    const int32_t warp_column = static_cast<int32_t>(ptx::warp_id() / Tile::kWarpsM) * kWarpN;

    const uint32_t smem = ptx::smem_base();
    const auto tile_a = [=](int32_t stage) { return smem + (stage % Tile::kStages) * kStageBytes; };
    const auto tile_b = [=](int32_t stage) { return tile_a(stage) + kBytesA; };

    tile::ConvOperands<Format, Tile::kTileM, Tile::kTileN, kThreads, kVector> operands(p.conv, p.x, p.weight, first_m,
                                                                                     first_k);
    typename Math::template Warp<kWarpM, kWarpN> accumulators(warp_row, warp_column);

    constexpr int32_t kDepthPerStage = tile::kRowBytes / sizeof(Element);
    const int32_t stages = (p.conv.gemm_k() + kDepthPerStage - 1) / kDepthPerStage;
    constexpr int32_t kAhead = Tile::kStages - 1;

    const auto load_stage = [&](int32_t stage) {
      if (stage < stages) operands.load(tile_a(stage), tile_b(stage));
      ptx::cp_async_commit();  // an empty group at the end, so that the wait below always counts the same
    };

    for (int32_t stage = 0; stage < kAhead; ++stage) load_stage(stage);
    for (int32_t stage = 0; stage < stages; ++stage) {
      ptx::cp_async_wait<kAhead - 1>();  // this thread's part of the stage has landed,
      ptx::barrier_sync();               // everybody's has, and everybody is done with the stage refilled next
      load_stage(stage + kAhead);
      accumulators.multiply(tile_a(stage), tile_b(stage));
    }
    ptx::barrier_sync();  // the panel takes the stages' place

    const tile::EpilogueTile<Format, Tile::kTileM, Tile::kTileN, kThreads> output = {
        .epilogue = p.epilogue, .conv = p.conv, .panel = smem, .first_row = first_m, .first_column = first_k};
    output.run(first_m / Tile::kTileM, [&](uint32_t panel, uint32_t pitch) {
      accumulators.store(panel, pitch, warp_row, warp_column);
    });
  }
};

template <class Math, class Tile, bool kVector>
void launch_conv_fprop(const tile::ConvGeometry& conv, const ConvFprop& problem, bool vector_epilogue) {
  using Kernel = ConvFpropKernel<Math, Tile, kVector>;
  using Element = typename Kernel::Element;
  const uint32_t tiles_m = (conv.gemm_m() + Tile::kTileM - 1) / Tile::kTileM;
  const uint32_t tiles_n = (conv.columns + Tile::kTileN - 1) / Tile::kTileN;
  machine::launch<Kernel>({.grid = {.x = tiles_m * tiles_n},
                           .block = Kernel::kThreads,
                           .smem = Kernel::kSmem,
                           .stream = problem.stream},
                          {.conv = conv,
                           .x = static_cast<const Element*>(problem.x),
                           .weight = static_cast<const Element*>(problem.weight),
                           .epilogue = {.affine = problem.affine,
                                        .residual = problem.residual,
                                        .mask = nullptr,
                                        .y = problem.y,
                                        .relu = problem.relu,
                                        .vector = vector_epilogue,
                                        .statistics = {}}});
}

// Where the choice among instantiations ends.
[[noreturn]] inline void refuse_conv_fprop(const char* math, const FpropConfig& config, const ConvFprop& problem) {
  throw std::runtime_error(std::string("conv_fprop ") + math + ": no kernel for tile " +
                           std::to_string(static_cast<int>(config.tile)) +
                           (config.vector_operands ? ", 16-byte operands, " : ", single elements, ") +
                           describe(problem.shape));
}

}  // namespace rk::sm80
