// A core runs clusters of blocks, one cluster at a time, on one OS thread: a fiber a lane, a rendezvous a
// warp instruction. A cluster is one block unless the launch says otherwise.
//
// Lanes run one after another until each has reached the same warp-wide instruction; the last to arrive
// carries it out for all and goes on. A warp that waits for a block barrier hands over to the next warp; a
// lane that waits for an mbarrier alone is parked, and its siblings go on. In the fast build lanes and warps
// take turns in their natural order; in the checked build the schedule decides (engine/schedule.h).
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "engine/fiber.h"
#include "engine/mbarrier.h"
#include "engine/policy.h"
#include "engine/registers.h"
#include "engine/schedule.h"
#include "engine/site.h"
#include "machine/launch_config.h"

namespace rk::sim {

using machine::Dim3;
using machine::Span;

struct Warp;
struct Block;
class Core;
class Checks;        // checks/checks.h, checked build only
class LaunchChecks;  // checks/launch_checks.h

// What a launch hands to the engine; lives in the launching thread until every block has ended.
struct LaunchInfo {
  const char* kernel;
  machine::LaunchConfig config;
  void (*run)(const void* params);
  const void* params;
  const Span* spans;
  uint32_t span_count;
  uint32_t min_blocks;   // blocks that one multiprocessor has registers for
  LaunchChecks* checks;  // null in the fast build
};

// A warp-wide instruction. `complete` runs once, when every lane of the group has arrived, and moves the
// values.
struct Operation {
  const char* name;
  void (*complete)(Warp& warp, uint32_t group);
};

// What a lane has arrived at.
struct Arrival {
  const Operation* operation;
  uint32_t mask;     // lanes that the instruction names
  uint32_t operand;  // what else all lanes must agree on
  Site site;
};

// A lane's operands on arrival and its results after completion. A lane touches its own slot only, so the
// last lane to arrive may go on while its siblings have not yet read their results.
struct alignas(64) Slot {
  uint32_t word[16];
};

struct Lane {
  Fiber fiber;
  Warp* warp = nullptr;
  uint32_t tid = 0;     // in the block
  uint32_t thread = 0;  // in the cluster
  uint32_t index = 0;   // in the warp
  Arrival arrival = {};
};

struct Warp {
  Slot slot[32];
  Lane* lanes = nullptr;
  Block* block = nullptr;
  uint32_t index = 0;    // in its block
  uint32_t number = 0;   // in its cluster
  uint32_t live = 0;     // lanes that have not exited
  uint32_t waiting = 0;  // live lanes that have arrived somewhere
  uint32_t parked = 0;   // live lanes that wait, each for itself, for something outside the warp
  bool mixed = false;    // not all of them at the same instruction
  bool blocked = false;  // every lane waits for a block barrier
  Arrival arrival = {};  // of the first of the waiting lanes; of the barrier while blocked

  uint32_t ready() const { return blocked ? 0 : live & ~(waiting | parked); }
};

// A block barrier: 0 is the block's own, 1 to 15 are named.
struct Barrier {
  uint32_t arrived = 0;   // threads
  uint32_t expected = 0;  // threads; 0 while unused or when all live threads are meant
  uint32_t warps = 0;     // warps that wait, as a mask
};
inline constexpr uint32_t kBarriers = 16;
inline constexpr uint32_t kMaxWarps = 32;
inline constexpr uint32_t kMaxThreads = 32 * kMaxWarps;
inline constexpr uint32_t kMaxClusterWarps = 64;  // as many as a mask holds

// The barrier of the cluster. Warps, as masks.
struct ClusterBarrier {
  uint64_t arrived = 0;   // in the current phase
  uint64_t owing = 0;     // have arrived and still have to wait
  uint64_t released = 0;  // of those, whose phase has ended
  uint64_t waiting = 0;
};

struct Block {
  Dim3 index;
  uint32_t rank = 0;          // in its cluster
  uint64_t linear = 0;        // in the grid
  uint8_t* shared = nullptr;  // host address of its shared address 0
  Warp* warps = nullptr;
  uint32_t threads = 0;
  uint32_t warp_count = 0;
  uint32_t live_warps = 0;
  Barrier barriers[kBarriers];
  std::vector<Mbarrier> mbarriers;  // in the order of their initialisation
  RegisterPool registers;
};

// The shared window starts at an address that is not zero, as on hardware, so that a stray null is out of
// bounds. An address of another block of the cluster (mapa) carries that block's rank, plus one, on top.
inline constexpr uint32_t kSharedBase = 1024;
inline constexpr uint32_t kRankShift = 24;

// What the ptx functions need at once. Constant-initialised and in the initial TLS block: one
// segment-relative load.
struct Running {
  Lane* lane;
  uint8_t* shared;  // host address of shared address 0 of the lane's block
  Core* core;
};
inline thread_local constinit Running running
    __attribute__((tls_model("initial-exec"))) = {nullptr, nullptr, nullptr};

class Core {
 public:
  Core();
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Runs the blocks of cluster `linear` of the launch to their end. Throws what a lane threw, or a Report.
  void run_cluster(const LaunchInfo& launch, uint64_t linear);

  // The running lane has arrived at `arrival`; returns when the instruction is complete for it.
  void arrive(const Arrival& arrival);

  // bar.sync and bar.arrive for a whole warp; `wait` blocks the warp until the barrier completes.
  void arrive_at_barrier(Warp& warp, uint32_t id, uint32_t threads, bool wait);

  // barrier.cluster for a whole warp: every live warp of the cluster arrives, then waits.
  void arrive_at_cluster(Warp& warp);
  void wait_for_cluster(Warp& warp);

  // The running lane waits at `arrival` until somebody calls unpark for it.
  void park(const Arrival& arrival);
  void unpark(Lane& lane) { lane.warp->parked &= ~(1u << lane.index); }

  // Lets another lane or warp run first, if the schedule draws one. Checked build only.
  void schedule_point();

  [[noreturn]] void exit_lane();
  [[noreturn]] void fail(std::exception_ptr error);

  const LaunchInfo& launch() const { return *launch_; }
  Block& block() { return *running.lane->warp->block; }  // of the running lane
  std::vector<Block>& blocks() { return blocks_; }       // of the cluster, by rank
  Lane& lane(uint32_t thread) { return lanes_[thread]; }
  uint64_t steps() const { return steps_; }  // warp instructions completed by the cluster so far
  Fiber& main_fiber() { return main_; }
  Checks& checks() { return *checks_; }
  Random& random() { return random_; }

 private:
  void start(const LaunchInfo& launch, uint64_t linear);
  void complete(Warp& warp, uint32_t group);
  void release(Block& block, uint32_t id);
  void release_cluster();
  void enter(Lane& lane);
  void switch_to(Lane& lane);
  Lane& first();
  Lane& next(Warp& current);
  Lane& elsewhere(Warp& current);
  Lane& scheduled(Warp& current);
  Lane& ready_lane(Warp& warp);
  uint64_t runnable() const;

  StackPool stacks_;
  Fiber main_;
  const LaunchInfo* launch_ = nullptr;
  std::vector<Block> blocks_;  // of the cluster, by rank
  std::vector<Warp> warps_;    // of all its blocks, one after another; lanes likewise
  std::vector<Lane> lanes_;
  std::vector<uint8_t> shared_;
  uint64_t steps_ = 0;
  ClusterBarrier cluster_;
  std::exception_ptr error_;
  Policy policy_;
  Random random_;
  std::unique_ptr<Checks> checks_;  // null in the fast build
};

inline Lane& lane() { return *running.lane; }
inline Slot& slot() { return lane().warp->slot[lane().index]; }
inline Slot& slot(Lane& lane) { return lane.warp->slot[lane.index]; }

// Arrives at a warp-wide instruction of all lanes and returns when it is complete.
inline void collective(const Operation& operation, uint32_t operand, Site site) {
  running.core->arrive({&operation, 0xffffffffu, operand, site});
}

}  // namespace rk::sim
