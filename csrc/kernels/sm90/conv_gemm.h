// Convolution as an implicit GEMM, forward and backward-data, for sm_90 in bf16 and fp16: the problem of
// kernels/sm80/conv_gemm.h by TMA and wgmma.
//
//   fprop   y[n, p, q, k]  = epilogue(sum over (r, s, c) of x[n, p st + r dil - pad, ..., c] w[k, r, s, c])
//   dgrad   dx[n, h, w, c] = epilogue(sum over (r, s, k) of dy[n, (h + pad - r dil) / st, ..., k] w[k, r, s,
//   c])
//
// dgrad goes by phases of dx, up to four in a launch, each an implicit GEMM of unit stride; wgmma reads the
// filters transposed, so that they need not be.
//
// Persistent: a grid of clusters of two blocks, one block an SM, that walk over pairs of tiles, one below the
// other, columns fastest, so that the clusters that share a tile of the source run together. In a block
//
//   warp 0 of the producer   copies operands: a stage is one tap's 64 channels of kM rows of the source
//                            (im2col, or a matrix where the rows are the source's pixels) and of kN filters,
//                            of which each block of the cluster loads one half for both;
//   warps 1, 2               copy what the epilogues read, for one consumer each;
//   two consumers            multiply kM / 2 rows each, then end their tile (tile/sm90/box_epilogue.h) while
//                            the stages of the next one land.
//
// Bytes from L2 a block and tile: depth (kM + kN / 2) elements. DRAM sees each tensor once, as long as the
// clusters at work share what L2 holds.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <launch.h>
#include <ptx/bulk.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/griddepcontrol.h>
#include <ptx/ids.h>
#include <ptx/setmaxnreg.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/tma.h>
#include <ptx/warp.h>

#include "kernels/sm90/conv_narrow.h"
#include "kernels/sm90/conv_params.h"
#include "kernels/sm90/conv_tiles.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/name.h"
#include "tile/sm90/box_epilogue.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/fragments.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/prologue.h"
#include "tile/sm90/ring.h"
#include "tile/sm90/warpgroup_product.h"

namespace rk::sm90 {

template <class Format, class Tile, tile::EpilogueKind kKind, class Prologue>
struct ConvGemmKernel {
  static constexpr bool kBackward = kKind == tile::EpilogueKind::backward;
  static constexpr int kPhases = kBackward && !Prologue::kTransforms ? kDgradPhasesPerLaunch : 1;
  static constexpr machine::ElementType kElement = FormatTraits<Format>::kElement;

  struct Params : ConvParams<kPhases> {
    machine::TensorMap second, transformed;  // of the prologue, if it has them
    typename Prologue::Params prologue;
    uint32_t tiles;  // of a cluster: a pair of row tiles and a tile of columns
    tile::Divisor divide_column_tiles;
  };

  static constexpr auto kNameParts = [] {
    if constexpr (Prologue::kTransforms) {
      return tile::join_names(conv_name<kKind>(), Format::kName, Tile::kName, Prologue::kName);
    } else {
      return tile::join_names(conv_name<kKind>(), Format::kName, Tile::kName);
    }
  }();
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = kConvThreads;
  static constexpr uint32_t kMinBlocks = 1;

  static constexpr int kBlocks = Tile::kM / tile::kConsumers / tile::kBoxRows;  // of a consumer
  static constexpr machine::Major kMajorB = kBackward ? machine::Major::mn : machine::Major::k;
  using Product = tile::WarpgroupProduct<FormatTraits<Format>::kMatrix, kBlocks, Tile::kN, kMajorB>;
  using Epilogue = tile::BoxEpilogue<Format, kKind, kBlocks, Tile::kN>;

  static constexpr uint32_t kBytesA = Tile::kM * tile::kRowBytes;
  static constexpr uint32_t kBytesB = Tile::kN * tile::kRowBytes;
  // A stage: the source, the prologue's second source, the weights, the prologue's vectors.
  static constexpr uint32_t kSourceBytes = Prologue::kSources * kBytesA;
  static constexpr uint32_t kVectorsAt = kSourceBytes + kBytesB;
  static constexpr uint32_t kLoadedBytes = kVectorsAt + Prologue::kVectors * tile::kVectorBytes;
  static constexpr uint32_t kStageBytes = (kLoadedBytes + 1023) / 1024 * 1024;
  static_assert(!Prologue::kTransforms || kBlocks == 1, "a consumer holds the fragments of 64 rows");
  static constexpr uint32_t kBarriers = 256;  // room for all
  static constexpr int kStages =
      std::min<int>(5, (kMostSharedMemory - Epilogue::kMemory - kBarriers) / kStageBytes);
  static_assert(kStages >= 3, "two stages land while one is multiplied");
  using OperandRing = tile::Ring<kStages, tile::kConsumers * 4, Tile::kCluster>;

  // Stages and the epilogue's boxes start at multiples of 1024, where the swizzle does.
  static constexpr uint32_t kEpilogueAt = kStages * kStageBytes;
  static constexpr uint32_t kBarriersAt = kEpilogueAt + Epilogue::kMemory;
  static constexpr uint32_t kSmem = kBarriersAt + kBarriers;
  static_assert(OperandRing::kBarrierBytes + Epilogue::kBarrierMemory <= kBarriers, "the barriers have room");

  static auto spans(const Params& p) {
    const tile::ConvGeometry& conv = p.conv[0];
    const ConvSpans own = spans_of(p, kBackward);
    const tile::PrologueSpans loads =
        Prologue::spans(p.prologue, conv.source_elements() / conv.channels, conv.channels);
    std::array<machine::Span, own.size() + loads.size()> all = {};
    std::copy(loads.begin(), loads.end(), std::copy(own.begin(), own.end(), all.begin()));
    return all;
  }

  // This block's tiles, in the order in which everybody in it walks over them.
  class TileWalk {
   public:
    RK_DEVICE explicit TileWalk(const Params& p) : p_(p), tile_(ptx::ctaid_x() / Tile::kCluster) { locate(); }
    RK_DEVICE bool exists() const { return tile_ < p_.tiles; }
    RK_DEVICE void advance() {
      tile_ += ptx::nctaid_x() / Tile::kCluster;
      locate();
    }

    RK_DEVICE int phase() const { return phase_; }
    // Within its phase. A row past the last one belongs to a tile that only fills up the cluster.
    RK_DEVICE int32_t first_row() const { return first_row_; }
    RK_DEVICE int32_t first_column() const { return first_column_; }

   private:
    RK_DEVICE void locate() {
      uint32_t column_tile;
      const uint32_t pair = p_.divide_column_tiles.divide(tile_, column_tile);
      const uint32_t row_tile = pair * Tile::kCluster + ptx::ctaid_x() % Tile::kCluster;
      phase_ = p_.phase_of(row_tile);
      first_row_ = static_cast<int32_t>((row_tile - p_.first_row_tile[phase_]) * Tile::kM);
      first_column_ = static_cast<int32_t>(column_tile * Tile::kN);
    }

    const Params& p_;
    uint32_t tile_;
    int phase_;
    int32_t first_row_, first_column_;
  };

  using StageWalk = sm90::StageWalk<Params, TileWalk>;

  static RK_DEVICE void prefetch_maps(const Params& p) {
    p.prefetch_maps();
    if constexpr (Prologue::kSources == 2) ptx::prefetch_tensor_map(p.second);
    if (Prologue::transformed(p.prologue) != nullptr) ptx::prefetch_tensor_map(p.transformed);
  }

  // ---- warp 0 of the producer, one thread

  static RK_DEVICE void load_operands(const Params& p, const OperandRing& ring, uint32_t stages) {
    StageWalk walk(p, TileWalk(p));
    StageWalk soon = walk;
    for (int i = 0; i < kStages && soon.exists(); ++i, soon.advance()) prefetch_weights(p.weight, soon);
    ptx::griddep_wait();
    typename OperandRing::Position at;
    for (; walk.exists(); walk.advance(), at.advance()) {
      const uint32_t full = ring.acquire(at, kLoadedBytes);
      const uint32_t stage = stages + at.stage * kStageBytes;
      walk.load_source(stage, full);
      load_weights(p.weight, stage + kSourceBytes, full, walk);
      if constexpr (Prologue::kTransforms) load_for_prologue(p, stage, full, walk);
    }
  }

  static RK_DEVICE void load_for_prologue(const Params& p, uint32_t stage, uint32_t full,
                                          const StageWalk& walk) {
    const int32_t channel = walk.channel();
    if constexpr (Prologue::kSources == 2)
      ptx::tma_load(stage + kBytesA, p.second, full, {channel, walk.tile().first_row()});
    RK_UNROLL
    for (int i = 0; i < Prologue::kVectors; ++i) {
      ptx::bulk_load(stage + kVectorsAt + i * tile::kVectorBytes,
                     Prologue::vector(p.prologue, i, p.conv[0].channels) + channel, tile::kVectorBytes, full);
    }
  }

  // This block's share of kN columns and kStageDepth channels of a tap: use(where it goes in the tile, where
  // it lies). In dgrad panels of 64 columns with a row for each position of depth, else a row for each
  // column.
  template <class Use>
  static RK_DEVICE void for_weights(const StageWalk& walk, const Use& use) {
    const int32_t column = walk.tile().first_column();
    const auto first = static_cast<int32_t>(ptx::ctaid_x() % Tile::kCluster) * kWeightRows;
    if constexpr (kBackward) {
      RK_UNROLL
      for (int32_t panel = 0; panel < Tile::kN / tile::kBoxChannels; ++panel) {
        use((panel * kStageDepth + first) * tile::kRowBytes,
            {column + panel * tile::kBoxChannels, walk.tap(), walk.channel() + first});
      }
    } else {
      use(first * tile::kRowBytes, {walk.channel(), walk.tap(), column + first});
    }
  }

  // For all blocks of the cluster.
  static RK_DEVICE void load_weights(const machine::TensorMap& map, uint32_t tile, uint32_t full,
                                     const StageWalk& walk) {
    for_weights(walk, [&](uint32_t offset, const int32_t (&position)[3]) {
      ptx::tma_load_multicast(tile + offset, map, full, (1 << Tile::kCluster) - 1, position);
    });
  }

  // To L2, while the kernel before may still be running: that is right even if it writes them.
  static RK_DEVICE void prefetch_weights(const machine::TensorMap& map, const StageWalk& walk) {
    for_weights(walk, [&](uint32_t, const int32_t (&position)[3]) { ptx::tma_prefetch(map, position); });
  }
  static constexpr int kWeightRows = (kBackward ? kStageDepth : Tile::kN) / Tile::kCluster;  // of a box

  // ---- a consumer

  static RK_DEVICE void multiply(Product& product, int32_t count, const OperandRing& ring,
                                 typename OperandRing::Position& at, uint32_t stages, uint32_t consumer) {
    typename OperandRing::Position previous = at;
    for (int32_t i = 0; i < count; ++i) {
      ring.await(at);
      const uint32_t stage = stages + at.stage * kStageBytes;
      product.start(stage + consumer * (kBytesA / tile::kConsumers), stage + kSourceBytes);
      if (i != 0) {  // while this stage is multiplied, the one before it can be refilled
        product.wait_for_previous();
        ring.release(previous);
      }
      previous = at;
      at.advance();
    }
    product.wait();
    if (count != 0) ring.release(previous);
  }

  // The same where the source is transformed on the way: the consumers' turns of transforming and multiplying
  // interleave by themselves. The blocks of the first column of tiles also write what they have made.
  static RK_DEVICE void transform_and_multiply(const Params& p, Product& product, const TileWalk& tile,
                                               const OperandRing& ring, typename OperandRing::Position& at,
                                               uint32_t stages, uint32_t consumer) {
    const tile::ConvGeometry& conv = p.conv[0];
    const int32_t row = tile.first_row() + static_cast<int32_t>(consumer) * tile::kBoxRows;
    const uint32_t slab = tile::warp_of_consumer() * tile::kSlabRows;
    const bool writes = tile.first_column() == 0 && Prologue::transformed(p.prologue) != nullptr;
    Prologue prologue(p.prologue, conv.channels);
    prologue.begin(row + static_cast<int32_t>(slab + ptx::lane_id() / 4), conv.gemm_m());
    prologue.prefetch(0);
    typename Product::Fragments fragments;
    for (int32_t channel = 0; channel < conv.channels; channel += kStageDepth) {
      ring.await(at);
      const uint32_t stage = stages + at.stage * kStageBytes;
      const uint32_t source = stage + consumer * tile::kBoxBytes;
      RK_UNROLL
      for (uint32_t step = 0; step < Product::kSteps; ++step) {
        const uint32_t chunk = 2 * step;
        float values[8], second[8] = {};
        tile::read_fragment<Format>(source, slab, chunk, values);
        if constexpr (Prologue::kSources == 2)
          tile::read_fragment<Format>(source + kBytesA, slab, chunk, second);
        uint32_t (&word)[4] = fragments[step].registers();
        prologue.transform(stage + kVectorsAt, chunk, second, writes, values, word);
        if (!writes) continue;
        ptx::stmatrix_x4(tile::matrix_row(source, slab, chunk), word);
        if (chunk % 4 == 2) prologue.write_mask(channel + static_cast<int32_t>(chunk / 4) * 32);
      }
      if (writes) {
        ptx::fence_proxy_async();
        tile::consumer_barrier(consumer);
        if (tile::leads_consumer()) {
          ptx::tma_store(p.transformed, source, {channel, row});
          ptx::bulk_commit();
        }
      }
      product.start(fragments, stage + kSourceBytes);
      prologue.prefetch(channel + kStageDepth);
      product.wait(fragments);
      if (writes && tile::leads_consumer()) ptx::bulk_wait_read<0>();
      ptx::warp_sync();
      ring.release(at);
      at.advance();
    }
  }

  static RK_DEVICE void consume(const Params& p, Epilogue& epilogue, const OperandRing& ring, uint32_t stages,
                                uint32_t consumer) {
    typename OperandRing::Position at;
    // Elsewhere the first stage says that the kernels before have ended, and what they wrote is visible to
    // the grid, not to the waiting thread alone (PTX ISA 9.7.13.13); but a phase may have no stages.
    if constexpr (kPhases > 1 || Prologue::kReadsAhead) ptx::griddep_wait();
    for (TileWalk tile(p); tile.exists(); tile.advance()) {
      const int phase = tile.phase();
      const tile::ConvGeometry& conv = p.conv[phase];
      Product product;
      if constexpr (Prologue::kTransforms) {
        transform_and_multiply(p, product, tile, ring, at, stages, consumer);
      } else {
        multiply(product, stages_of(conv), ring, at, stages, consumer);
      }
      const int32_t row = tile.first_row();
      if (row >= conv.gemm_m()) continue;
      epilogue.run(product, p.output[phase], conv, p.first_partial[phase] + row / Tile::kM, row,
                   tile.first_column(), consumer);
    }
    epilogue.drain();
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const OperandRing ring = {smem + kBarriersAt};
    Epilogue epilogue(p.epilogue, smem + kEpilogueAt, smem + kBarriersAt + OperandRing::kBarrierBytes);
    const uint32_t warp = ptx::shfl_idx(ptx::warp_id(), 0);  // the compiler sees that it is the warp's
    const uint32_t warpgroup = warp / 4;
    if (ptx::tid_x() == 0) {
      ring.init();
      epilogue.init();
      ptx::fence_mbarrier_init();
    }
    ptx::cluster_arrive();
    if (ptx::tid_x() == kThreads - 1) prefetch_maps(p);  // its warp has nothing else to do
    ptx::cluster_wait();
    ptx::griddep_launch_dependents();

    if (warpgroup == kProducer) {
      ptx::setmaxnreg_dec<40>();
      const bool one = ptx::elect_one();
      if (warp % 4 == 0) {
        if (one) load_operands(p, ring, smem);
      } else if (tile::has_sources(kKind) && warp % 4 <= tile::kConsumers) {
        if (one) {
          ptx::griddep_wait();
          for (TileWalk tile(p); tile.exists(); tile.advance()) {
            const int phase = tile.phase();
            if (tile.first_row() < p.conv[phase].gemm_m())
              epilogue.load_sources(p.output[phase], p.conv[phase], tile.first_row(), tile.first_column(),
                                    warp % 4 - 1);
          }
        }
      }
      tile::converge_warp();
    } else {
      ptx::setmaxnreg_inc<232>();
      consume(p, epilogue, ring, smem, warpgroup);
    }
    // The other block may still copy to this one, or let go of its stages.
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
};

template <class Format, class Tile, tile::EpilogueKind kKind, class Prologue>
void launch_conv_gemm(const ConvGemm& gemm, const typename Prologue::Params& prologue) {
  using Kernel = ConvGemmKernel<Format, Tile, kKind, Prologue>;
  constexpr machine::ElementType kElement = Kernel::kElement;
  const tile::ConvGeometry& conv = gemm.conv[0];
  typename Kernel::Params params = {};
  fill(params, gemm, kElement, Tile::kM, Tile::kCluster, Tile::kM);
  params.weight = weight_map(gemm, kElement, Kernel::kBackward, Kernel::kWeightRows);
  const auto column_tiles = static_cast<uint32_t>((conv.columns + Tile::kN - 1) / Tile::kN);
  params.tiles = params.row_tiles / Tile::kCluster * column_tiles;
  params.divide_column_tiles = tile::Divisor(column_tiles);
  params.prologue = prologue;
  if (const void* second = Prologue::second_source(prologue))
    params.second = tile::matrix_map(kElement, second, conv.gemm_m(), conv.channels, Tile::kM);
  if (const void* transformed = Prologue::transformed(prologue))
    params.transformed =
        tile::matrix_map(kElement, transformed, conv.gemm_m(), conv.channels, tile::kBoxRows);
  const uint32_t clusters =
      std::min(params.tiles, std::max(1u, static_cast<uint32_t>(machine::sm_count()) / Tile::kCluster));
  machine::launch<Kernel>({.grid = {.x = clusters * Tile::kCluster},
                           .cluster = {.x = Tile::kCluster},
                           .block = Kernel::kThreads,
                           .smem = Kernel::kSmem,
                           .stream = gemm.stream,
                           .pdl = true},
                          params);
}

// Which tiles there are for which prologue; the choice ends in an explicit refusal.
template <class Format, tile::EpilogueKind kKind, class Prologue>
void launch_conv_tile(const ConvGemm& gemm, const typename Prologue::Params& prologue) {
  if (gemm.tile == ConvTile::t128x128)
    return launch_conv_gemm<Format, Tile128x128, kKind, Prologue>(gemm, prologue);
  if constexpr (Prologue::kTransforms) {
    if (gemm.tile == ConvTile::t128x64)
      return launch_conv_gemm<Format, Tile128x64, kKind, Prologue>(gemm, prologue);
  } else {
    if (gemm.tile == ConvTile::t192x64) return launch_conv_narrow<Format, kKind>(gemm);
    if (gemm.tile == ConvTile::t256x128)
      return launch_conv_gemm<Format, Tile256x128, kKind, Prologue>(gemm, prologue);
    if (gemm.tile == ConvTile::t256x64)
      return launch_conv_gemm<Format, Tile256x64, kKind, Prologue>(gemm, prologue);
  }
  if constexpr (Prologue::kSources == 1) {
    if (gemm.tile == ConvTile::t128x256)
      return launch_conv_gemm<Format, Tile128x256, kKind, Prologue>(gemm, prologue);
  }
  throw std::runtime_error(std::string(conv_name<kKind>()) + ": no kernel for tile " +
                           std::to_string(static_cast<int>(gemm.tile)) + " and this prologue");
}

template <class Format, bool kResidual>
void launch_conv_normalised(const ConvGemm& gemm) {
  using Prologue = tile::NormalisedBoxes<Format, kResidual>;
  using Element = typename Format::Element;
  const Normalise& normalise = *gemm.normalise;
  launch_conv_tile<Format, tile::EpilogueKind::moments, Prologue>(
      gemm, {.affine = normalise.affine,
             .residual = static_cast<const Element*>(normalise.residual),
             .a = static_cast<Element*>(gemm.transformed),
             .mask = gemm.transformed_mask,
             .relu = normalise.relu});
}

// The epilogue's kind is what the problem asks for; nothing but moments goes with moments.
template <class Format>
void launch_conv_fprop(const ConvGemm& gemm) {
  using tile::EpilogueKind;
  using AsBoxes = tile::AsBoxes<Format>;
  if (gemm.normalise != nullptr && gemm.normalise->residual != nullptr)
    return launch_conv_normalised<Format, true>(gemm);
  if (gemm.normalise != nullptr) return launch_conv_normalised<Format, false>(gemm);
  if (gemm.epilogue.statistics.kind == tile::Statistics::Kind::moments)
    return launch_conv_tile<Format, EpilogueKind::moments, AsBoxes>(gemm, {});
  if (gemm.epilogue.residual != nullptr)
    return launch_conv_tile<Format, EpilogueKind::residual, AsBoxes>(gemm, {});
  launch_conv_tile<Format, EpilogueKind::plain, AsBoxes>(gemm, {});
}

template <class Format>
void launch_conv_dgrad(const ConvGemm& gemm) {
  using tile::EpilogueKind;
  if (gemm.gradient == nullptr)
    return launch_conv_tile<Format, EpilogueKind::backward, tile::AsBoxes<Format>>(gemm, {});
  launch_conv_tile<Format, EpilogueKind::backward, tile::BnGradientBoxes<Format>>(
      gemm, {.gradient = *gemm.gradient, .dy = static_cast<typename Format::Element*>(gemm.transformed)});
}

}  // namespace rk::sm90
