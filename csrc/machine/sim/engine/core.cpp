#include "engine/core.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "checks/checks.h"
#include "checks/launch_checks.h"
#include "engine/report.h"

namespace rk::sim {
namespace {

// Every fiber starts here.
void lane_main() {
  Core& core = *running.core;
  started_from(core.main_fiber());
  std::exception_ptr error;
  try {
    core.launch().run(core.launch().params);
  } catch (const Report&) {
    error = std::current_exception();
  } catch (const std::exception& e) {
    error = std::make_exception_ptr(named(*running.lane, e));
  } catch (...) {
    error = std::current_exception();
  }
  if (error) core.fail(std::move(error));
  core.exit_lane();
}

Dim3 unflatten(uint64_t linear, const Dim3& grid) {
  const uint64_t rows = linear / grid.x;
  return {static_cast<uint32_t>(linear % grid.x), static_cast<uint32_t>(rows % grid.y),
          static_cast<uint32_t>(rows / grid.y)};
}

}  // namespace

Core::Core() {
  if constexpr (kChecked) checks_ = std::make_unique<Checks>(*this);
}

Core::~Core() = default;

void Core::start(const LaunchInfo& launch, uint64_t linear) {
  launch_ = &launch;
  error_ = nullptr;
  steps_ = 0;
  cluster_ = {};
  const Dim3 &grid = launch.config.grid, &cluster = launch.config.cluster;
  const Dim3 first = unflatten(linear, {grid.x / cluster.x, grid.y / cluster.y, grid.z / cluster.z});
  const uint32_t count = cluster.x * cluster.y * cluster.z;
  const uint32_t threads = launch.config.block;
  const uint32_t warps = (threads + 31) / 32;
  // 1024-byte aligned, as the CUDA machine promises.
  const size_t stride = (launch.config.smem + 2 * kSharedBase - 1) / 1024 * 1024;
  shared_.resize(count * stride + 1024);
  uint8_t* const shared = shared_.data() + (1024 - reinterpret_cast<uintptr_t>(shared_.data()) % 1024) % 1024;
  blocks_.resize(count);
  warps_.resize(size_t{count} * warps);
  lanes_.resize(size_t{count} * threads);
  for (uint32_t rank = 0; rank < count; ++rank) {
    const Dim3 within = unflatten(rank, cluster);
    Block& block = blocks_[rank];
    block = Block{};
    block.index = {first.x * cluster.x + within.x, first.y * cluster.y + within.y,
                   first.z * cluster.z + within.z};
    block.rank = rank;
    block.linear = (uint64_t{block.index.z} * grid.y + block.index.y) * grid.x + block.index.x;
    block.shared = shared + rank * stride;
    block.warps = &warps_[size_t{rank} * warps];
    block.threads = threads;
    block.warp_count = block.live_warps = warps;
    block.registers.begin(threads, launch.min_blocks);
    for (uint32_t i = 0; i < warps; ++i) {
      Warp& warp = block.warps[i];
      const uint32_t lanes = std::min(32u, threads - 32 * i);
      warp.lanes = &lanes_[size_t{rank} * threads + 32 * i];
      warp.block = &block;
      warp.index = i;
      warp.number = rank * warps + i;
      warp.live = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
      warp.waiting = warp.parked = 0;
      warp.mixed = warp.blocked = false;
    }
    for (uint32_t tid = 0; tid < threads; ++tid) {
      Lane& lane = lanes_[size_t{rank} * threads + tid];
      lane.warp = &block.warps[tid / 32];
      lane.tid = tid;
      lane.thread = rank * threads + tid;
      lane.index = tid % 32;
      lane.fiber.stack = stacks_.get(lane.thread);
      prepare(lane.fiber, lane_main, (tid % 32) * 128 + (tid / 32 % 2) * 64);
    }
  }
  if constexpr (kChecked) {
    std::fill(shared_.begin(), shared_.end(), uint8_t{0xff});
    const Schedule& schedule = launch.checks->schedule();
    random_ = Random(mix(schedule.seed, launch.checks->index(), linear));
    policy_.begin(schedule, static_cast<uint32_t>(warps_.size()), random_);
    checks_->begin_cluster();
  }
}

void Core::run_cluster(const LaunchInfo& launch, uint64_t linear) {
  running.core = this;
  main_.stack = {};
  start(launch, linear);
  Lane& lane = first();
  enter(lane);
  switch_fiber(main_, lane.fiber);
  running.lane = nullptr;
  if (error_) std::rethrow_exception(error_);
  if constexpr (kChecked) checks_->end_cluster();
}

// From here on `lane` is the one that runs.
inline void Core::enter(Lane& lane) {
  running.lane = &lane;
  running.shared = lane.warp->block->shared;
}

inline void Core::switch_to(Lane& to) {
  Lane& from = *running.lane;
  if (&to == &from) return;
  enter(to);
  switch_fiber(from.fiber, to.fiber);
}

inline Lane& Core::ready_lane(Warp& warp) {
  const uint32_t ready = warp.ready();
  return warp.lanes[kChecked ? policy_.lane(ready) : static_cast<uint32_t>(std::countr_zero(ready))];
}

uint64_t Core::runnable() const {
  uint64_t mask = 0;
  for (const Warp& warp : warps_) mask |= uint64_t{warp.ready() != 0} << warp.number;
  return mask;
}

// Any warp may begin.
Lane& Core::first() {
  if constexpr (kChecked) {
    return ready_lane(warps_[policy_.first_warp(runnable())]);
  }
  return ready_lane(warps_[0]);
}

// Who runs after the current lane had to stop in its warp; throws when nobody can.
inline Lane& Core::next(Warp& current) {
  if (current.ready() != 0) return ready_lane(current);
  return elsewhere(current);
}

Lane& Core::elsewhere(Warp& current) {
  if (!current.blocked && current.waiting != 0 && current.parked == 0) report_divergence(current);
  uint64_t mask = runnable();
  if constexpr (kChecked) {
    // What everybody waits for may be an asynchronous copy that the schedule has held back.
    while (mask == 0 && checks_->land_one()) mask = runnable();
  }
  if (mask == 0) report_deadlock(*launch_, blocks_);
  if constexpr (kChecked) return ready_lane(warps_[policy_.warp(current.number, mask, steps_)]);
  // Cyclically after the current one.
  const uint64_t after = current.number == 63 ? 0 : mask & ~((uint64_t{2} << current.number) - 1);
  return ready_lane(warps_[static_cast<size_t>(std::countr_zero(after != 0 ? after : mask))]);
}

// Who runs after the current warp has done a step and could go on.
Lane& Core::scheduled(Warp& current) {
  return ready_lane(warps_[policy_.warp(current.number, runnable(), steps_)]);
}

void Core::schedule_point() {
  if (policy_.restless()) switch_to(scheduled(*running.lane->warp));
}

void Core::arrive(const Arrival& arrival) {
  Lane& me = *running.lane;
  Warp& warp = *me.warp;
  me.arrival = arrival;
  if (warp.waiting == 0) {
    warp.arrival = arrival;
    warp.mixed = false;
  } else if (arrival.operation != warp.arrival.operation || arrival.mask != warp.arrival.mask ||
             arrival.operand != warp.arrival.operand ||
             (kChecked && arrival.site.line != warp.arrival.site.line)) {
    warp.mixed = true;
  }
  warp.waiting |= 1u << me.index;
  const uint32_t group = arrival.mask & warp.live;
  if ((group & ~warp.waiting) == 0) {
    complete(warp, group);
    if (warp.ready() >> me.index & 1) {
      if constexpr (kChecked) switch_to(scheduled(warp));
      return;
    }
  }
  switch_to(next(warp));
}

// Every lane of `group` has arrived: they must agree, then the instruction runs and sets them free.
void Core::complete(Warp& warp, uint32_t group) {
  const Arrival& arrival = warp.lanes[std::countr_zero(group)].arrival;
  if (warp.mixed) require_agreement(warp, group);
  warp.waiting &= ~group;
  ++steps_;
  arrival.operation->complete(warp, group);
  if constexpr (kChecked) checks_->completed(warp);
}

void Core::arrive_at_barrier(Warp& warp, uint32_t id, uint32_t threads, bool wait) {
  Block& block = *warp.block;
  Barrier& barrier = block.barriers[id];
  if (barrier.arrived != 0 && barrier.expected != threads) {
    const Site site = warp.lanes[std::countr_zero(warp.live)].arrival.site;
    report("barrier " + std::to_string(id) + " is used with " + std::to_string(threads) +
               " threads while others wait at it with " + std::to_string(barrier.expected),
           site);
  }
  barrier.arrived += 32;
  barrier.expected = threads;
  if constexpr (kChecked) checks_->arrive(warp, id);
  if (wait) {
    barrier.warps |= 1u << warp.index;
    warp.blocked = true;
    warp.arrival = warp.lanes[std::countr_zero(warp.live)].arrival;
  }
  if (barrier.arrived >= (threads == 0 ? 32 * block.live_warps : threads)) release(block, id);
}

void Core::release(Block& block, uint32_t id) {
  Barrier& barrier = block.barriers[id];
  for (uint32_t left = barrier.warps; left != 0; left &= left - 1) {
    Warp& warp = block.warps[std::countr_zero(left)];
    warp.blocked = false;
    if constexpr (kChecked) checks_->released(warp, id);
  }
  if constexpr (kChecked) checks_->barrier_done(block, id);
  barrier = Barrier{};
}

void Core::arrive_at_cluster(Warp& warp) {
  const uint64_t bit = uint64_t{1} << warp.number;
  if (cluster_.owing & bit) {
    report("cluster_arrive for the second time without cluster_wait",
           warp.lanes[std::countr_zero(warp.live)].arrival.site);
  }
  cluster_.arrived |= bit;
  cluster_.owing |= bit;
  if constexpr (kChecked) checks_->arrive_at_cluster(warp);
  release_cluster();
}

void Core::wait_for_cluster(Warp& warp) {
  const uint64_t bit = uint64_t{1} << warp.number;
  const Arrival& arrival = warp.lanes[std::countr_zero(warp.live)].arrival;
  if (!(cluster_.owing & bit)) report("cluster_wait without cluster_arrive", arrival.site);
  if (cluster_.released & bit) {
    cluster_.owing &= ~bit;
    cluster_.released &= ~bit;
    if constexpr (kChecked) checks_->cluster_awaited(warp);
    return;
  }
  cluster_.waiting |= bit;
  warp.blocked = true;
  warp.arrival = arrival;
}

// Ends the phase once every live warp of the cluster has arrived.
void Core::release_cluster() {
  for (const Warp& warp : warps_) {
    if (warp.live != 0 && !(cluster_.arrived >> warp.number & 1)) return;
  }
  if constexpr (kChecked) checks_->cluster_met();
  cluster_.arrived = 0;
  cluster_.released = cluster_.owing & ~cluster_.waiting;
  cluster_.owing = cluster_.released;
  for (uint64_t left = cluster_.waiting; left != 0; left &= left - 1) {
    Warp& warp = warps_[static_cast<size_t>(std::countr_zero(left))];
    warp.blocked = false;
    if constexpr (kChecked) checks_->cluster_awaited(warp);
  }
  cluster_.waiting = 0;
}

void Core::park(const Arrival& arrival) {
  Lane& me = *running.lane;
  me.arrival = arrival;
  me.warp->parked |= 1u << me.index;
  switch_to(next(*me.warp));
}

void Core::exit_lane() {
  Lane& me = *running.lane;
  Warp& warp = *me.warp;
  Block& block = *warp.block;
  warp.live &= ~(1u << me.index);
  try {
    if (warp.live == 0) {
      // Exited threads no longer count for the block's own barrier.
      --block.live_warps;
      if constexpr (kChecked) checks_->exited(warp);
      if (cluster_.arrived != 0) release_cluster();
      Barrier& own = block.barriers[0];
      if (own.warps != 0 && own.expected == 0 && own.arrived >= 32 * block.live_warps) release(block, 0);
    } else if (warp.waiting != 0) {
      // The siblings may have waited for this lane alone.
      const uint32_t group = warp.lanes[std::countr_zero(warp.waiting)].arrival.mask & warp.live;
      if ((group & ~warp.waiting) == 0) complete(warp, group);
    }
    if (std::any_of(blocks_.begin(), blocks_.end(), [](const Block& b) { return b.live_warps != 0; })) {
      Lane& lane = next(warp);
      enter(lane);
      leave_fiber(me.fiber, lane.fiber);
    }
  } catch (...) {
    error_ = std::current_exception();
  }
  leave_fiber(me.fiber, main_);
}

void Core::fail(std::exception_ptr error) {
  error_ = std::move(error);
  leave_fiber(running.lane->fiber, main_);
}

}  // namespace rk::sim
