// Convolutions to at most 64 channels for sm_90 in bf16 and fp16, forward and backward-data: the weights stay
// in shared memory, pixels pass by.
//
// With 64 columns the tiles of conv_gemm.h read as much of the weights as of the source for every product,
// 128 bytes a clock, and load the weights again for every tile. Here the operands change places: wgmma's m is
// the 64 channels, its n 192 pixels, which reads 85 bytes a clock; all taps' weights, up to 72 KB (3x3x64),
// are loaded once a block. A stage is one tap's 64 channels of 192 pixels.
//
// Persistent, one block an SM. Each of the two consumers has tiles of its own, every other one of the
// block's, and they take turns: while one multiplies, the other ends its tile. Accumulators lie channels
// down, pixels across (tile/sm90/transposed_epilogue.h).
//
// Bytes from L2 a tile: taps * channels * 192 elements.
#pragma once

#include <algorithm>
#include <cstdint>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/fence.h>
#include <ptx/griddepcontrol.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/setmaxnreg.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>

#include "kernels/sm90/conv_params.h"
#include "kernels/sm90/conv_tiles.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/name.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/ring.h"
#include "tile/sm90/transposed_epilogue.h"
#include "tile/sm90/warpgroup_product.h"

namespace rk::sm90 {

template <class Format, tile::EpilogueKind kKind>
struct ConvNarrowKernel {
  static constexpr bool kBackward = kKind == tile::EpilogueKind::backward;
  static constexpr int kPhases = kBackward ? kDgradPhasesPerLaunch : 1;

  struct Params : ConvParams<kPhases> {
    uint32_t weight_boxes;  // of 64 channels of a tap: all of them, in the order of memory
  };

  static constexpr auto kNameParts = tile::join_names(conv_name<kKind>(), Format::kName, "192x64");
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = kConvThreads;
  static constexpr uint32_t kMinBlocks = 1;

  static constexpr int kPixels = kNarrowPixels;
  static constexpr machine::Major kMajorA = kBackward ? machine::Major::mn : machine::Major::k;
  using Product =
      tile::WarpgroupProduct<FormatTraits<Format>::kMatrix, 1, kPixels, machine::Major::k, kMajorA>;
  using Epilogue = tile::TransposedEpilogue<Format, kKind, kPixels>;

  static constexpr uint32_t kStageBytes = kPixels * tile::kRowBytes;
  static constexpr uint32_t kWeightBytes = kNarrowWeightBoxes * tile::kBoxBytes;
  static constexpr uint32_t kBarriers = 256;  // room for all
  static constexpr int kStages =
      std::min<int>(5, (kMostSharedMemory - kWeightBytes - Epilogue::kMemory - kBarriers) / kStageBytes);
  static_assert(kStages >= 3, "two stages land while one is multiplied");
  using PixelRing = tile::Ring<kStages, 4>;  // a stage has one consumer

  // Stages, weights and the epilogue's boxes start at multiples of 1024, where the swizzle does.
  static constexpr uint32_t kWeightsAt = kStages * kStageBytes;
  static constexpr uint32_t kEpilogueAt = kWeightsAt + kWeightBytes;
  static constexpr uint32_t kBarriersAt = kEpilogueAt + Epilogue::kMemory;
  static constexpr uint32_t kSmem = kBarriersAt + kBarriers;
  // Three mbarriers beside those of the rings: the weights have landed; and each consumer's turn, a phase of
  // which ends when the other one has started its tile's last stage. Without turns a consumer would wait for
  // a phase of a stage that is more than one ahead, which parities cannot tell from one that is over.
  static constexpr uint32_t kTurnsAt = kBarriersAt + 8;
  static constexpr uint32_t kRingAt = kTurnsAt + 8 * tile::kConsumers;
  static constexpr uint32_t kEpilogueBarriersAt = kRingAt + PixelRing::kBarrierBytes;
  static_assert(kEpilogueBarriersAt - kBarriersAt + Epilogue::kBarrierMemory <= kBarriers,
                "the barriers have room");

  static ConvSpans spans(const Params& p) { return spans_of(p, kBackward); }

  // This block's tiles; number i is consumer i % 2's.
  struct TileWalk {
    const Params& p;
    uint32_t tile = ptx::ctaid_x();
    uint32_t number = 0;

    RK_DEVICE explicit TileWalk(const Params& params) : p(params) {}
    RK_DEVICE bool exists() const { return tile < p.row_tiles; }
    RK_DEVICE void advance() {
      tile += ptx::nctaid_x();
      ++number;
    }
    RK_DEVICE bool is_of(uint32_t consumer) const { return number % tile::kConsumers == consumer; }
    RK_DEVICE int phase() const { return p.phase_of(tile); }
    RK_DEVICE int32_t first_row() const {
      return static_cast<int32_t>(tile - p.first_row_tile[phase()]) * kPixels;
    }
  };
  using StageWalk = sm90::StageWalk<Params, TileWalk>;

  static RK_DEVICE int32_t boxes_of(const tile::ConvGeometry& conv) {  // of a tap
    return (conv.channels + kStageDepth - 1) / kStageDepth;
  }

  // ---- warp 0 of the producer, one thread

  // Every box of weights: use(its place, where it lies). Box i has 64 channels of the source of tap i /
  // boxes_of(conv), for all 64 columns; in dgrad a row for each position of depth, else a row for each
  // column.
  template <class Use>
  static RK_DEVICE void for_weights(const Params& p, const Use& use) {
    const auto boxes = static_cast<uint32_t>(boxes_of(p.conv[0]));
    for (uint32_t i = 0; i < p.weight_boxes; ++i) {
      const auto tap = static_cast<int32_t>(i / boxes);
      const auto channel = static_cast<int32_t>(i % boxes) * kStageDepth;
      use(i * tile::kBoxBytes, {kBackward ? 0 : channel, tap, kBackward ? channel : 0});
    }
  }

  // To L2, while the kernel before may still be running: that is right even if it writes them.
  static RK_DEVICE void prefetch_weights(const Params& p) {
    for_weights(p, [&](uint32_t, const int32_t (&position)[3]) { ptx::tma_prefetch(p.weight, position); });
  }

  static RK_DEVICE void load_weights(const Params& p, uint32_t weights, uint32_t full) {
    ptx::mbarrier_arrive_expect_tx(full, p.weight_boxes * tile::kBoxBytes);
    for_weights(p, [&](uint32_t offset, const int32_t (&position)[3]) {
      ptx::tma_load(weights + offset, p.weight, full, position);
    });
  }

  static RK_DEVICE void load_pixels(const Params& p, const PixelRing& ring, uint32_t stages) {
    typename PixelRing::Position at;
    for (StageWalk walk(p, TileWalk(p)); walk.exists(); walk.advance(), at.advance()) {
      const uint32_t full = ring.acquire(at, kStageBytes);
      walk.load_source(stages + at.stage * kStageBytes, full);
    }
  }

  // ---- a consumer

  // The stages of its tile: the depth's boxes of the weights in the same order.
  static RK_DEVICE void multiply(const Params& p, Product& product, int phase, const PixelRing& ring,
                                 typename PixelRing::Position& at, uint32_t smem, uint32_t next_turn) {
    const uint32_t stages = smem, weights = smem + kWeightsAt;
    const tile::ConvGeometry& conv = p.conv[phase];
    const auto& taps = p.taps[phase];
    typename PixelRing::Position previous = at;
    bool started = false;
    for (int32_t h = 0; h < conv.h.taps; ++h) {
      for (int32_t w = 0; w < conv.w.taps; ++w) {
        const int32_t tap = taps.first + h * taps.step_h + w * taps.step_w;
        for (int32_t box = 0; box < boxes_of(conv); ++box) {
          ring.await(at);
          product.start(weights + static_cast<uint32_t>(tap * boxes_of(conv) + box) * tile::kBoxBytes,
                        stages + at.stage * kStageBytes);
          if (started) {  // while this stage is multiplied, the one before it can be refilled
            product.wait_for_previous();
            ring.release(previous);
          }
          started = true;
          previous = at;
          at.advance();
        }
      }
    }
    if (ptx::lane_id() == 0) ptx::mbarrier_arrive(next_turn);  // the last stage is on its way
    product.wait();
    if (started) ring.release(previous);
  }

  static RK_DEVICE void consume(const Params& p, Epilogue& epilogue, const PixelRing& ring, uint32_t smem,
                                uint32_t consumer) {
    typename PixelRing::Position at;
    const auto turn = [=](uint32_t of) { return smem + kTurnsAt + 8 * of; };
    uint32_t parity = consumer == 0 ? 1 : 0;  // consumer 0 begins
    // Moments read nothing before the first stage, which says that the kernels before have ended.
    if constexpr (kKind != tile::EpilogueKind::moments) ptx::griddep_wait();
    epilogue.begin(p.conv[0]);
    ptx::mbarrier_wait(smem + kBarriersAt, 0);
    for (TileWalk tile(p); tile.exists(); tile.advance()) {
      const int phase = tile.phase();
      const tile::ConvGeometry& conv = p.conv[phase];
      if (!tile.is_of(consumer)) {
        at.advance(static_cast<uint32_t>(stages_of(conv)));
        continue;
      }
      ptx::mbarrier_wait(turn(consumer), parity);
      parity ^= 1;
      Product product;
      multiply(p, product, phase, ring, at, smem, turn(1 - consumer));
      const int32_t row = tile.first_row();
      epilogue.run(product.block(0), p.output[phase], conv, p.first_partial[phase] + row / kPixels, row,
                   consumer);
    }
    epilogue.drain();
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const uint32_t weights_full = smem + kBarriersAt;
    const PixelRing ring = {smem + kRingAt};
    Epilogue epilogue(p.epilogue, smem + kEpilogueAt, smem + kEpilogueBarriersAt);
    const uint32_t warp = ptx::shfl_idx(ptx::warp_id(), 0);  // the compiler sees that it is the warp's
    const uint32_t warpgroup = warp / 4;
    if (ptx::tid_x() == kThreads - 1) p.prefetch_maps();  // its warp has nothing else to do
    if (ptx::tid_x() == 0) {
      ptx::mbarrier_init(weights_full, 1);
      RK_UNROLL
      for (uint32_t consumer = 0; consumer < tile::kConsumers; ++consumer)
        ptx::mbarrier_init(smem + kTurnsAt + 8 * consumer, 4);  // warps
      ring.init();
      epilogue.init();
      ptx::fence_mbarrier_init();
    }
    ptx::barrier_sync();
    ptx::griddep_launch_dependents();

    if (warpgroup == kProducer) {
      ptx::setmaxnreg_dec<40>();
      if (!ptx::elect_one()) return;
      if (warp % 4 == 0) {
        prefetch_weights(p);
        ptx::griddep_wait();
        load_weights(p, smem + kWeightsAt, weights_full);
        load_pixels(p, ring, smem);
      } else if (tile::has_sources(kKind) && warp % 4 <= tile::kConsumers) {
        const uint32_t consumer = warp % 4 - 1;
        ptx::griddep_wait();
        for (TileWalk tile(p); tile.exists(); tile.advance()) {
          if (!tile.is_of(consumer)) continue;
          const int phase = tile.phase();
          epilogue.load_sources(p.output[phase], p.conv[phase], tile.first_row(), consumer);
        }
      }
    } else {
      ptx::setmaxnreg_inc<232>();
      consume(p, epilogue, ring, smem, warpgroup);
    }
  }
};

template <class Format, tile::EpilogueKind kKind>
void launch_conv_narrow(const ConvGemm& gemm) {
  using Kernel = ConvNarrowKernel<Format, kKind>;
  constexpr machine::ElementType kElement = FormatTraits<Format>::kElement;
  typename Kernel::Params params = {};
  fill(params, gemm, kElement, Kernel::kPixels, 1, Kernel::kPixels);
  params.weight = weight_map(gemm, kElement, Kernel::kBackward, tile::kBoxRows);
  params.weight_boxes =
      static_cast<uint32_t>(gemm.taps * ((gemm.conv[0].channels + kStageDepth - 1) / kStageDepth));
  machine::launch<Kernel>(
      {.grid = {.x = std::min(params.row_tiles, static_cast<uint32_t>(machine::sm_count()))},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = gemm.stream,
       .pdl = true},
      params);
}

}  // namespace rk::sm90
