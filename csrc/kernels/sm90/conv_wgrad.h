// Gradient of the weights, for sm_90: TMA and wgmma, bfloat16 and float16.
//
//   dw[k, r, s, c] = sum over pixels m = (n, p, q) of dy[m, k] x[n, p st + r dil - pad, ..., c]
//
// A GEMM whose depth is the pixels: GEMM rows are filters, columns the (r, s, c) in chunks of 64 channels of
// one tap. Both operands lie in shared memory as the tensors do, a row a pixel, and are multiplied mn-major:
// dy in boxes of 64 filters of a tiled map, x in boxes of 64 channels of an im2col map, each chunk with the
// offsets of its own tap, so that a tile may span taps and dy is loaded once for all of them. For pointwise
// convolutions x is a matrix [pixels, c] and its map is tiled. What lies beyond the filters, the channels of
// a tap, the chunks or the last pixel is filled with zeros in both operands, and zeros add nothing.
//
// The pixels are cut into a fixed number of ranges of whole stages, chosen from shape and machine alone. One
// range of one tile is a unit of work; blocks are persistent, units are in the order filters, columns,
// ranges, so that those under way together read the same pixels. A block writes a unit's sums in float32
// straight from the accumulators: four lanes fill a 32-byte sector. reduce_splits then adds the ranges in
// order. No atomics: the same bits every time.
//
// One warp of the last warpgroup starts the copies, the other warpgroups multiply: one stage's wgmma in
// flight, the stage before it handed back. Where x is to be normalised (tile/prologue.h), so that the
// activation need not be kept, the last warpgroup's other three warps do it in place between the two: for
// windows of one tap without padding, in which every pixel is the image's, and tiles of up to 256 columns. In
// a pair, two blocks of a cluster with neighbouring tiles of filters multiply the same x: each loads one half
// of a stage's pixels for both.
//
// Bytes a block requests for 64 pixels, and the clocks that an SM's tensor cores take for them (m64nNk16: N /
// 2). A pair's blocks request half of their x each:
//
//   tile      dy      x       sum     clocks   bytes a clock   of a pair
//   128x384   16 KB   48 KB   64 KB    1536    43              27
//   128x256   16 KB   32 KB   48 KB    1024    48              32
//   128x192   16 KB   24 KB   40 KB     768    53              37
//   256x128   32 KB   16 KB   48 KB    1024    48
//    64x576    8 KB   72 KB   80 KB    1152    71
//    64x256    8 KB   32 KB   40 KB     512    80
//
// L2 is thought to give 30 to 40: hence large tiles, and pairs where there are 256 filters or more. 128x384
// and 128x192 divide the columns of most 3x3 convolutions (9 c), 64x576 holds all of the one with 64 channels
// and filters; 256x128 and 64x256 are for pointwise convolutions of few channels or few filters. A thread of
// two multiplying warpgroups has 224 registers (208 where x is normalised), 192 of which hold the sums of
// 128x384; of three, 152 and 96.
// Stages take 192 to 224 KB. Partials: splits * k * r s c * 4, written and read once.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/setmaxnreg.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include "kernels/sm90/format_traits.h"
#include "kernels/sm90/launchers.h"
#include "kernels/sm90/wgrad_tiles.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "machine/matrix_operand.h"
#include "machine/tensor_map.h"
#include "machine/words.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/prologue.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/normalised_rows.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/ring.h"
#include "tile/swizzle.h"

namespace rk::sm90 {

template <class Format, class Tile, bool kNormalises>
struct ConvWgradKernel {
  static constexpr auto kElement = FormatTraits<Format>::kElement;
  static constexpr auto kMatrix = FormatTraits<Format>::kMatrix;
  static constexpr auto kSwizzle = machine::Swizzle::span128;
  static constexpr auto kMn = machine::Major::mn;

  using Normalised = tile::Normalised<Format, false>;

  struct Params {
    machine::TensorMap dy, x;
    tile::ConvGeometry conv;                      // of fprop
    bool pointwise;                               // x's map is tiled
    int32_t tap_chunks, chunks;                   // of one tap, of all
    int32_t filter_groups, column_tiles, splits;  // filter_groups: tiles of filters, or pairs of them
    int32_t stages, stages_per_split;
    const void* x_data;
    const void* dy_data;
    float* partials;  // [splits, k, r s c]
    typename Normalised::Params normalise;
  };

  static constexpr auto kNameParts = [] {
    if constexpr (kNormalises) {
      return tile::join_names("conv_wgrad_tma", Format::kName, Tile::kName, Normalised::kName);
    } else {
      return tile::join_names("conv_wgrad_tma", Format::kName, Tile::kName);
    }
  }();
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kGroups = Tile::kGroupsM * Tile::kGroupsN;  // that multiply
  static constexpr uint32_t kThreads = (kGroups + 1) * 128;
  static constexpr uint32_t kMinBlocks = 1;
  // A block starts with 168 registers a thread, or 128 of four warpgroups: what one warpgroup gives back the
  // others take. Who normalises keeps some too.
  static constexpr int kRegisters = kGroups == 2 ? 3 * 168 : 4 * 128;
  static constexpr int kMultiplyRegisters = kGroups == 3 ? 152 : kNormalises ? 208 : 224;
  static constexpr int kCopyRegisters = kRegisters - static_cast<int>(kGroups) * kMultiplyRegisters;

  static constexpr int kChunk = 64;  // filters or channels of a box
  static constexpr int kGroupBoxesM = Tile::kM / Tile::kGroupsM / kChunk;
  static constexpr int kGroupN = Tile::kN / Tile::kGroupsN;
  static constexpr int kParts = (kGroupN + 255) / 256;  // wgmma along a warpgroup's columns
  static constexpr int kPartN = kGroupN / kParts;
  static constexpr int kBoxRows = Tile::kDepth / Tile::kBlocks;  // pixels of x that a block loads
  static constexpr uint32_t kRow = kChunk * 2, kPanel = Tile::kDepth * kRow;  // bytes
  static constexpr uint32_t kBytesDy = Tile::kM / kChunk * kPanel;
  static constexpr uint32_t kStageBytes = kBytesDy + Tile::kN / kChunk * kPanel;
  using Ring = tile::Ring<Tile::kStages, kGroups * 4, Tile::kBlocks>;
  static constexpr uint32_t kBarriers = Tile::kStages * kStageBytes;
  static constexpr uint32_t kReady = kBarriers + Ring::kBarrierBytes;  // of each stage: x is normalised
  static constexpr uint32_t kNormalisers = 3;                          // warps
  static constexpr uint32_t kSmem = kReady + (kNormalises ? Tile::kStages * 8 : 0);
  static_assert(kSmem <= 227 * 1024, "a block has 227 KB of shared memory");
  static_assert(kGroupN % kParts == 0 && kPartN % kChunk == 0, "the columns of a wgmma are whole boxes");
  static_assert(kPanel % 1024 == 0 && kBoxRows % 8 == 0, "every box starts the swizzle over");

  static auto spans(const Params& p) {
    using machine::Role;
    const tile::PrologueSpans loads =
        Normalised::spans(p.normalise, p.conv.source_elements() / p.conv.channels, p.conv.channels);
    std::array<machine::Span, 3 + loads.size()> all = {
        {{p.x_data, p.conv.source_elements() * 2, Role::activation, "x"},
         {p.dy_data, p.conv.output_elements() * 2, Role::activation, "dy"},
         {p.partials, p.splits * p.conv.weight_elements() * 4, Role::partial, "partials"}}};
    std::copy(loads.begin(), loads.end(), all.begin() + 3);
    return all;
  }

  // One range of the pixels for one tile.
  struct Unit {
    int32_t first_filter, first_chunk, first_stage, stages, split;
  };
  static RK_DEVICE int32_t units(const Params& p) { return p.filter_groups * p.column_tiles * p.splits; }
  static RK_DEVICE Unit unit(const Params& p, int32_t number) {
    const int32_t rest = number / p.filter_groups;
    const int32_t filter_tile = number % p.filter_groups * Tile::kBlocks + cluster_rank();
    const int32_t split = rest / p.column_tiles;
    const int32_t first_stage = split * p.stages_per_split;
    const int32_t left = p.stages - first_stage;
    return {.first_filter = filter_tile * Tile::kM,
            .first_chunk = rest % p.column_tiles * (Tile::kN / kChunk),
            .first_stage = first_stage,
            .stages = left < p.stages_per_split ? left : p.stages_per_split,
            .split = split};
  }
  // Pairs of blocks take units together.
  static RK_DEVICE int32_t first_unit() { return static_cast<int32_t>(ptx::ctaid_x()) / Tile::kBlocks; }
  static RK_DEVICE int32_t unit_step() { return static_cast<int32_t>(ptx::nctaid_x()) / Tile::kBlocks; }
  static RK_DEVICE int32_t cluster_rank() {
    return Tile::kBlocks == 1 ? 0 : static_cast<int32_t>(ptx::cluster_rank());
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const Ring ring = {smem + kBarriers};
    const uint32_t warp = ptx::warp_id();
    if (ptx::tid_x() == 0) {
      ring.init();
      if constexpr (kNormalises) {
        RK_UNROLL
        for (uint32_t stage = 0; stage < Tile::kStages; ++stage)
          ptx::mbarrier_init(ready(smem, stage), kNormalisers);
      }
      ptx::fence_mbarrier_init();
    }
    if constexpr (Tile::kBlocks == 1) {
      ptx::barrier_sync();
    } else {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
    if (warp >= kGroups * 4) {
      ptx::setmaxnreg_dec<kCopyRegisters>();
      if (warp == kGroups * 4) {
        if (ptx::elect_one()) copy(p, ring, smem);
      } else if constexpr (kNormalises) {
        normalise(p, ring, smem, warp - kGroups * 4 - 1);
      }
    } else {
      ptx::setmaxnreg_inc<kMultiplyRegisters>();
      multiply(p, ring, smem);
    }
    if constexpr (Tile::kBlocks != 1) {  // the other block may still copy here, and let go of stages here
      tile::converge_warp();
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
  }

  static RK_DEVICE void copy(const Params& p, const Ring& ring, uint32_t smem) {
    ptx::prefetch_tensor_map(p.dy);
    ptx::prefetch_tensor_map(p.x);
    typename Ring::Position at;
    for (int32_t number = first_unit(); number < units(p); number += unit_step()) {
      const Unit u = unit(p, number);
      const Boxes boxes(p, u.first_chunk);
      RK_NO_UNROLL
      for (int32_t stage = u.first_stage; stage < u.first_stage + u.stages; ++stage) {
        const uint32_t full = ring.acquire(at, kStageBytes);
        const uint32_t dy = smem + at.stage * kStageBytes;
        const int32_t pixel = stage * Tile::kDepth;
        RK_UNROLL
        for (int i = 0; i < Tile::kM / kChunk; ++i) {
          ptx::tma_load(dy + i * kPanel, p.dy, full, {u.first_filter + i * kChunk, pixel});
        }
        const uint32_t x = dy + kBytesDy + cluster_rank() * kBoxRows * kRow;
        copy_x(p, x, full, pixel + cluster_rank() * kBoxRows, u.first_chunk, boxes);
        at.advance();
      }
    }
  }

  // What all stages of a unit have in common: the channel and the tap's offsets of each of its boxes of x, if
  // it is not pointwise. Beyond the last chunk: channels that do not exist, of the first tap.
  struct Boxes {
    int32_t c[Tile::kN / kChunk];
    uint16_t h[Tile::kN / kChunk], w[Tile::kN / kChunk];

    RK_DEVICE Boxes(const Params& p, int32_t first_chunk) {
      const tile::ConvGeometry& conv = p.conv;
      const int32_t tap = first_chunk / p.tap_chunks;
      int32_t channel = first_chunk % p.tap_chunks * kChunk;
      int32_t r = tap / conv.w.taps, s = tap % conv.w.taps;
      RK_UNROLL
      for (int i = 0; i < Tile::kN / kChunk; ++i) {
        const bool outside = r == conv.h.taps;
        c[i] = outside ? conv.channels : channel;
        h[i] = static_cast<uint16_t>(outside ? 0 : r * conv.h.tap_step);
        w[i] = static_cast<uint16_t>(s * conv.w.tap_step);
        channel += kChunk;
        if (channel >= conv.channels && !outside) {
          channel = 0;
          if (++s == conv.w.taps) s = 0, ++r;
        }
      }
    }
  };

  static RK_DEVICE void copy_x(const Params& p, uint32_t x, uint32_t full, int32_t pixel, int32_t chunk,
                               const Boxes& boxes) {
    constexpr auto kAll = static_cast<uint16_t>((1 << Tile::kBlocks) - 1);
    if (p.pointwise) {
      RK_UNROLL
      for (int i = 0; i < Tile::kN / kChunk; ++i) {
        const int32_t column = (chunk + i) * kChunk;
        if constexpr (Tile::kBlocks == 1) {
          ptx::tma_load(x + i * kPanel, p.x, full, {column, pixel});
        } else {
          ptx::tma_load_multicast(x + i * kPanel, p.x, full, kAll, {column, pixel});
        }
      }
      return;
    }
    const tile::ConvGeometry& conv = p.conv;
    uint32_t i_h, i_w;
    const auto image = static_cast<int32_t>(conv.position(static_cast<uint32_t>(pixel), i_h, i_w));
    const int32_t h = static_cast<int32_t>(i_h) * conv.h.row_step + conv.h.base;
    const int32_t w = static_cast<int32_t>(i_w) * conv.w.row_step + conv.w.base;
    RK_UNROLL
    for (int i = 0; i < Tile::kN / kChunk; ++i) {
      if constexpr (Tile::kBlocks == 1) {
        ptx::tma_load_im2col(x + i * kPanel, p.x, full, {boxes.c[i], w, h, image}, {boxes.w[i], boxes.h[i]});
      } else {
        ptx::tma_load_im2col_multicast(x + i * kPanel, p.x, full, kAll, {boxes.c[i], w, h, image},
                                       {boxes.w[i], boxes.h[i]});
      }
    }
  }

  static RK_DEVICE uint32_t ready(uint32_t smem, uint32_t stage) { return smem + kReady + stage * 8; }

  // Eight lanes take a row of a box, each a chunk of eight channels: the same ones in all stages of a unit,
  // so that it keeps their coefficients. Three warps are twelve such groups, dealt out to the boxes; those of
  // a box share its rows, some consecutive ones at a time.
  static RK_DEVICE void normalise(const Params& p, const Ring& ring, uint32_t smem, uint32_t warp) {
    constexpr uint32_t kBoxes = Tile::kN / kChunk, kGroupsOfBox = kNormalisers * 4 / kBoxes;
    static_assert(kBoxes * kGroupsOfBox == kNormalisers * 4, "every box has as many groups");
    using Rows = tile::NormalisedRows<Format>;
    constexpr auto kStep = static_cast<int32_t>(kGroupsOfBox) * Rows::kAtOnce;
    const tile::ConvGeometry& conv = p.conv;
    const uint32_t lane = ptx::lane_id(), chunk = lane % 8, group = warp * 4 + lane / 8;
    const uint32_t box = group % kBoxes;
    const int32_t first_row = static_cast<int32_t>(group / kBoxes) * Rows::kAtOnce;
    const uint32_t first_x = smem + kBytesDy + box * kPanel;
    typename Ring::Position at;
    for (int32_t number = first_unit(); number < units(p); number += unit_step()) {
      const Unit u = unit(p, number);
      const auto channel = u.first_chunk * kChunk + static_cast<int32_t>(box * kChunk + chunk * 8);
      const Rows normalised(p.normalise, channel, conv.channels);
      for (int32_t stage = u.first_stage; stage < u.first_stage + u.stages; ++stage) {
        const int32_t left = conv.gemm_m() - stage * Tile::kDepth;  // what lies behind them stays zero
        const int32_t rows = channel >= conv.channels ? 0 : left < Tile::kDepth ? left : Tile::kDepth;
        ring.await(at);
        const uint32_t x = first_x + at.stage * kStageBytes;
        RK_NO_UNROLL
        for (int32_t row = first_row; row < rows; row += kStep)
          normalised.transform(x + tile::swizzled(static_cast<uint32_t>(row), chunk), rows - row);
        ptx::fence_proxy_async();
        ptx::warp_sync();
        if (lane == 0) ptx::mbarrier_arrive(ready(smem, at.stage));
        at.advance();
      }
    }
  }

  // Boxes from here on, sixteen pixels of each.
  static RK_DEVICE uint64_t operand(uint32_t address) {
    return machine::matrix_descriptor(kSwizzle, address, kPanel, 8 * kRow);
  }

  static RK_DEVICE void multiply(const Params& p, const Ring& ring, uint32_t smem) {
    const int32_t group = static_cast<int32_t>(ptx::warp_id()) / 4;
    const int32_t group_m = group % Tile::kGroupsM, group_n = group / Tile::kGroupsM;
    const uint32_t first_dy = smem + group_m * kGroupBoxesM * kPanel;
    const uint32_t first_x = smem + kBytesDy + group_n * (kGroupN / kChunk) * kPanel;
    typename Ring::Position at;
    for (int32_t number = first_unit(); number < units(p); number += unit_step()) {
      const Unit u = unit(p, number);
      ptx::WgmmaAccumulator<kPartN> sums[kGroupBoxesM * kParts];
      const auto start_stage = [&](bool first) {
        if constexpr (kNormalises) {  // after it has landed
          ptx::mbarrier_wait(ready(smem, at.stage), at.parity);
        } else {
          ring.await(at);
        }
        ptx::wgmma_fence(sums);
        const uint32_t dy = first_dy + at.stage * kStageBytes, x = first_x + at.stage * kStageBytes;
        RK_UNROLL
        for (uint32_t depth = 0; depth < Tile::kDepth; depth += 16) {
          RK_UNROLL
          for (uint32_t i = 0; i < kGroupBoxesM * kParts; ++i) {
            const uint64_t a = operand(dy + i / kParts * kPanel + depth * kRow);
            const uint64_t b = operand(x + i % kParts * (kPartN / kChunk * kPanel) + depth * kRow);
            ptx::wgmma_ss<kMatrix, kMn, kMn>(sums[i], a, b, !first || depth != 0);
          }
        }
        ptx::wgmma_commit();
      };
      start_stage(true);
      typename Ring::Position before = at;
      at.advance();
      for (int32_t stage = 1; stage < u.stages; ++stage) {
        start_stage(false);
        ptx::wgmma_wait<1>();
        ring.release(before);
        before = at;
        at.advance();
      }
      ptx::wgmma_wait<0>(sums);
      ring.release(before);
      store(p, sums, u.split, u.first_filter + group_m * kGroupBoxesM * kChunk,
            u.first_chunk + group_n * (kGroupN / kChunk));
    }
  }

  static RK_DEVICE void store(const Params& p,
                              const ptx::WgmmaAccumulator<kPartN> (&sums)[kGroupBoxesM * kParts],
                              int32_t split, int32_t first_filter, int32_t first_chunk) {
    const tile::ConvGeometry& conv = p.conv;
    const uint32_t lane = ptx::lane_id();
    const int32_t row = first_filter + static_cast<int32_t>(ptx::warp_id() % 4 * 16 + lane / 4);
    const int32_t columns = conv.gemm_k();
    float* const partial =
        p.partials + (int64_t{split} * conv.columns + row) * columns + static_cast<int32_t>(lane % 4 * 2);
    RK_UNROLL
    for (int j = 0; j < kGroupN / kChunk; ++j) {
      if (first_chunk + j >= p.chunks) continue;
      const int32_t tap = (first_chunk + j) / p.tap_chunks;
      const int32_t c = (first_chunk + j) % p.tap_chunks * kChunk;
      float* const chunk = partial + tap * conv.channels + c;
      RK_UNROLL
      for (int i = 0; i < 2 * kGroupBoxesM; ++i) {  // eight rows of each warp
        const int32_t down = i % 2 * 8 + i / 2 * kChunk;
        if (row + down >= conv.columns) continue;
        RK_UNROLL
        for (int column = 0; column < kChunk; column += 8) {
          if (c + column >= conv.channels) continue;
          const auto& sum = sums[i / 2 * kParts + j * kChunk / kPartN];
          const int element = (j * kChunk % kPartN + column) / 2 + i % 2 * 2;
          const Words2 pair = {
              {std::bit_cast<uint32_t>(sum.get(element)), std::bit_cast<uint32_t>(sum.get(element + 1))}};
          ptx::st_global(reinterpret_cast<Words2*>(chunk + int64_t{down} * columns + column), pair);
        }
      }
    }
  }
};

// ---- the launch

template <class Format, class Tile, bool kNormalises>
void launch_conv_wgrad_of(const WgradGemm& gemm) {
  using Kernel = ConvWgradKernel<Format, Tile, kNormalises>;
  const tile::ConvGeometry& conv = gemm.conv;
  const auto tiles = [](int64_t extent, int64_t tile) {
    return static_cast<int32_t>((extent + tile - 1) / tile);
  };
  const int32_t tap_chunks = tiles(conv.channels, Kernel::kChunk);
  const int32_t chunks = conv.h.taps * conv.w.taps * tap_chunks;
  const int32_t filter_tiles = tiles(conv.columns, Tile::kM);
  if (filter_tiles % Tile::kBlocks != 0)
    throw std::runtime_error(std::string(Kernel::kName) + ": pairs take an even number of tiles of filters");
  const int32_t column_tiles = tiles(chunks, Tile::kN / Kernel::kChunk);
  const int64_t blocks = int64_t{filter_tiles} * column_tiles * gemm.splits;
  const int64_t most = machine::sm_count() / Tile::kBlocks * Tile::kBlocks;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(blocks < most ? blocks : most)},
       .cluster = {.x = Tile::kBlocks},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = gemm.stream},
      {.dy = tile::matrix_map(Kernel::kElement, gemm.dy, conv.gemm_m(), conv.columns, Tile::kDepth),
       .x = tile::source_map(Kernel::kElement, gemm.x, conv, Kernel::kBoxRows),
       .conv = conv,
       .pointwise = tile::dense_source(conv),
       .tap_chunks = tap_chunks,
       .chunks = chunks,
       .filter_groups = filter_tiles / Tile::kBlocks,
       .column_tiles = column_tiles,
       .splits = gemm.splits,
       .stages = tiles(conv.gemm_m(), Tile::kDepth),
       .stages_per_split = gemm.pixels_per_split / Tile::kDepth,
       .x_data = gemm.x,
       .dy_data = gemm.dy,
       .partials = gemm.partials,
       .normalise = {.affine = kNormalises ? gemm.normalise->affine : Affine{},
                     .residual = nullptr,
                     .a = nullptr,
                     .mask = nullptr,
                     .relu = kNormalises && gemm.normalise->relu}});
}

template <class Format, class Tile>
void launch_conv_wgrad_tile(const WgradGemm& gemm) {
  if (gemm.normalise == nullptr) return launch_conv_wgrad_of<Format, Tile, false>(gemm);
  if constexpr (Tile::kN <= kNormalisedWgradColumns) {
    if (gemm.conv.h.taps * gemm.conv.w.taps == 1 && gemm.conv.h.base == 0 && gemm.conv.w.base == 0)
      return launch_conv_wgrad_of<Format, Tile, true>(gemm);
  }
  throw std::runtime_error(std::string("conv_wgrad_tma ") + Tile::kName + ": no such normalisation on load");
}

template <class Format>
void launch_conv_wgrad(const WgradGemm& gemm) {
  switch (gemm.tile) {
    case WgradTile::p128x384: return launch_conv_wgrad_tile<Format, WgradPair128x384>(gemm);
    case WgradTile::p128x256: return launch_conv_wgrad_tile<Format, WgradPair128x256>(gemm);
    case WgradTile::p128x192: return launch_conv_wgrad_tile<Format, WgradPair128x192>(gemm);
    case WgradTile::t128x384: return launch_conv_wgrad_tile<Format, WgradTile128x384>(gemm);
    case WgradTile::t128x256: return launch_conv_wgrad_tile<Format, WgradTile128x256>(gemm);
    case WgradTile::t128x192: return launch_conv_wgrad_tile<Format, WgradTile128x192>(gemm);
    case WgradTile::t256x128: return launch_conv_wgrad_tile<Format, WgradTile256x128>(gemm);
    case WgradTile::t64x576: return launch_conv_wgrad_tile<Format, WgradTile64x576>(gemm);
    case WgradTile::t64x256: return launch_conv_wgrad_tile<Format, WgradTile64x256>(gemm);
  }
  throw std::runtime_error(std::string("conv_wgrad_tma ") + Format::kName + ": unknown tile");
}

}  // namespace rk::sm90
