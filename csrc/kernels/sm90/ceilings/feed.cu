// How fast TMA fills shared memory from L2: a convolution's producer without the convolution.
//
// A block a multiprocessor copies box after box of x, 128 pixels of 64 channels in bfloat16, into a ring of
// stages: of a row of pixels what each tap of the window sees, then of the row of pixels that lies as many
// further on as there are blocks, around the tensor. A warp waits for each box and lets go of it, and reads
// none but the last. The taps make the kind of copy, as they do in a convolution: without a window boxes of a
// matrix, else im2col. In clusters of two both blocks want the same boxes of the matrix, and each loads half
// of every one for both.
//
// Bytes that land: blocks * copies * 16 KB; from L2 as many but for a window's padding, in clusters half of
// them. From DRAM x once, if L2 holds it.
//
//   checksums[block, lane] = FNV-1a over 32-bit words: h = (h ^ word) * 16777619, from 2166136261
//
// of the 16-byte chunks lane, lane + 32, ... of the block's last box as it lies in shared memory.
#include <array>
#include <cstdint>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>

#include "kernels/sm90/launchers.h"
#include "machine/launch_config.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/ring.h"
#include "tile/swizzle.h"

namespace rk::sm90 {
namespace {

constexpr uint32_t kBoxBytes = kFeedPixels * tile::kRowBytes;
static_assert(kBoxBytes == kFeedBoxBytes, "what callers count");

// kCluster: blocks that load every box together.
template <int kCluster>
struct FeedKernel {
  struct Params {
    machine::TensorMap source;
    tile::ConvGeometry conv;
    uint32_t rows;    // boxes of a tap
    uint32_t copies;  // of a block
    const void* x;
    uint32_t* checksums;
    uint32_t blocks;
  };
  static constexpr const char* kName = kCluster == 1 ? "feed ceiling" : "feed ceiling, multicast";
  static constexpr uint32_t kThreads = 64;
  static constexpr uint32_t kMinBlocks = 1;

  static constexpr int kStages = 12;
  using BoxRing = tile::Ring<kStages, 1, kCluster>;
  static constexpr uint32_t kBarriersAt = kStages * kBoxBytes;
  static constexpr uint32_t kSmem = kBarriersAt + BoxRing::kBarrierBytes;
  static constexpr int32_t kShare = kFeedPixels / kCluster;  // pixels of a box that a block loads

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.x, p.conv.source_elements() * 2, Role::activation, "x"},
             {p.checksums, int64_t{p.blocks} * 32 * 4, Role::output, "checksums"}}};
  }

  static RK_DEVICE int32_t first_pixel(uint32_t row) { return static_cast<int32_t>(row) * kFeedPixels; }

  // One thread of warp 0.
  static RK_DEVICE void produce(const Params& p, const BoxRing& ring, uint32_t stages) {
    typename BoxRing::Position at;
    uint32_t row = ptx::ctaid_x() / kCluster;
    int32_t h = 0, w = 0;
    tile::SourceRows seen(p.source, p.conv, first_pixel(row));
    for (uint32_t copy = 0; copy < p.copies; ++copy, at.advance()) {
      const uint32_t full = ring.acquire(at, kBoxBytes);
      const uint32_t box = stages + at.stage * kBoxBytes;
      if constexpr (kCluster == 1) {
        seen.load(box, full, 0, tile::window_offset(p.conv.h, h), tile::window_offset(p.conv.w, w));
      } else {
        const auto share = static_cast<int32_t>(ptx::cluster_rank()) * kShare;
        ptx::tma_load_multicast(box + static_cast<uint32_t>(share) * tile::kRowBytes, p.source, full,
                                (1 << kCluster) - 1, {0, first_pixel(row) + share});
      }
      if (++w < p.conv.w.taps) continue;
      w = 0;
      if (++h < p.conv.h.taps) continue;
      h = 0;
      row += ptx::nctaid_x() / kCluster;  // there are as many rows, or more
      if (row >= p.rows) row -= p.rows;
      seen = tile::SourceRows(p.source, p.conv, first_pixel(row));
    }
  }

  // Warp 1.
  static RK_DEVICE void consume(const Params& p, const BoxRing& ring, uint32_t stages) {
    const uint32_t lane = ptx::lane_id();
    typename BoxRing::Position at;
    for (uint32_t copy = 1; copy < p.copies; ++copy, at.advance()) {
      if (lane >= kCluster) continue;  // the producer waits for those that let go, and could lap the others
      ring.await(at);
      ring.release(at);
    }
    ptx::warp_sync();
    ring.await(at);
    uint32_t hash = 2166136261u;
    for (uint32_t i = lane; i < kBoxBytes / tile::kChunkBytes; i += 32) {
      const auto chunk = ptx::ld_shared<Words4>(stages + at.stage * kBoxBytes + i * tile::kChunkBytes);
      for (const uint32_t word : chunk.word) hash = (hash ^ word) * 16777619u;
    }
    ptx::st_global(p.checksums + ptx::ctaid_x() * 32 + lane, hash);
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t stages = ptx::smem_base();
    const BoxRing ring = {stages + kBarriersAt};
    const uint32_t warp = ptx::shfl_idx(ptx::warp_id(), 0);
    if (ptx::tid_x() == 0) {
      ring.init();
      ptx::fence_mbarrier_init();
    }
    if constexpr (kCluster == 1) {
      ptx::barrier_sync();
    } else {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
    if (warp == 0) {
      if (ptx::elect_one()) produce(p, ring, stages);
    } else {
      consume(p, ring, stages);
    }
    if constexpr (kCluster > 1) {  // the other block may still copy to this one, or let go of its stages
      tile::converge_warp();
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
  }
};

template <int kCluster>
void launch_feed_in(const Feed& feed) {
  using Kernel = FeedKernel<kCluster>;
  machine::launch<Kernel>(
      {.grid = {.x = feed.blocks},
       .cluster = {.x = kCluster},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = feed.stream},
      {.source = tile::source_map(machine::ElementType::bf16, feed.x, feed.conv, Kernel::kShare),
       .conv = feed.conv,
       .rows = static_cast<uint32_t>(feed.conv.gemm_m() / kFeedPixels),
       .copies = feed.copies,
       .x = feed.x,
       .checksums = feed.checksums,
       .blocks = feed.blocks});
}

}  // namespace

void launch_feed(const Feed& feed) {
  if (feed.multicast) return launch_feed_in<2>(feed);
  launch_feed_in<1>(feed);
}

}  // namespace rk::sm90
