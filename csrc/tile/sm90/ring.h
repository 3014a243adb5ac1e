// A ring of stages in shared memory between one thread that starts copies into them and the warps that use
// what has landed.
//
// A stage has two mbarriers. `full` ends a phase when the expected bytes have landed; `empty` when every
// consumer warp has let go of the stage. In a cluster a stage can receive copies that another block has
// started, so all blocks' consumers let go of it at every block's `empty`.
#pragma once

#include <cstdint>

#include <ptx/cluster.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>

namespace rk::tile {

// Which stage comes next, and the parity of its phase. Everybody who uses a ring walks it with one of these.
template <int kStages>
struct RingPosition {
  uint32_t stage = 0;
  uint32_t parity = 0;

  RK_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }

  // Past stages that are somebody else's.
  RK_DEVICE void advance(uint32_t stages) {
    for (stage += stages; stage >= kStages; stage -= kStages) parity ^= 1;
  }
};

// kConsumerWarps: of one block, each of which lets go of a stage once; kClusterBlocks: 1, or how many blocks
// copy into each other's stages.
template <int kStages, int kConsumerWarps, int kClusterBlocks = 1>
struct Ring {
  static constexpr uint32_t kBarrierBytes = 2 * kStages * 8;
  using Position = RingPosition<kStages>;

  uint32_t barriers;  // kBarrierBytes of shared memory, a multiple of 8

  RK_DEVICE uint32_t full(uint32_t stage) const { return barriers + stage * 8; }
  RK_DEVICE uint32_t empty(uint32_t stage) const { return barriers + (kStages + stage) * 8; }

  // One thread, before a barrier of the block (of the cluster, if there is one) and after it
  // fence_mbarrier_init.
  RK_DEVICE void init() const {
    RK_UNROLL
    for (uint32_t stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(full(stage), 1);
      ptx::mbarrier_init(empty(stage), kConsumerWarps * kClusterBlocks);
    }
  }

  // The producer: waits until the stage is free, and announces what the copies will bring. Copies name the
  // barrier that comes back.
  RK_DEVICE uint32_t acquire(const Position& at, uint32_t bytes) const {
    ptx::mbarrier_wait(empty(at.stage), at.parity ^ 1);
    ptx::mbarrier_arrive_expect_tx(full(at.stage), bytes);
    return full(at.stage);
  }

  // A consumer: waits until the stage has landed.
  RK_DEVICE void await(const Position& at) const { ptx::mbarrier_wait(full(at.stage), at.parity); }

  // A consumer warp, or its first kClusterBlocks lanes: nothing will be read of the stage any more. What
  // lanes read by themselves wants a warp_sync before; what wgmma read, its wait.
  RK_DEVICE void release(const Position& at) const {
    const uint32_t lane = ptx::lane_id();
    if constexpr (kClusterBlocks == 1) {
      if (lane == 0) ptx::mbarrier_arrive(empty(at.stage));
    } else {
      if (lane < kClusterBlocks) ptx::mbarrier_arrive_cluster(ptx::mapa(empty(at.stage), lane));
    }
  }
};

}  // namespace rk::tile
