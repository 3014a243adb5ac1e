#include "engine/core.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

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

Core::Core(uint32_t) {
  warps_.reserve(kMaxWarps);
  lanes_.reserve(kMaxThreads);
}

Core::~Core() = default;

void Core::start(const LaunchInfo& launch, uint64_t linear) {
  launch_ = &launch;
  error_ = nullptr;
  const uint32_t threads = launch.config.block;
  const uint32_t warps = (threads + 31) / 32;
  block_ = Block{};
  block_.index = unflatten(linear, launch.config.grid);
  block_.linear = linear;
  block_.threads = threads;
  block_.warp_count = block_.live_warps = warps;
  warps_.resize(warps);
  lanes_.resize(threads);
  for (uint32_t i = 0; i < warps; ++i) {
    Warp& warp = warps_[i];
    const uint32_t lanes = std::min(32u, threads - 32 * i);
    warp.lanes = &lanes_[32 * i];
    warp.block = &block_;
    warp.index = i;
    warp.live = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    warp.waiting = 0;
    warp.mixed = warp.blocked = false;
  }
  for (uint32_t tid = 0; tid < threads; ++tid) {
    Lane& lane = lanes_[tid];
    lane.warp = &warps_[tid / 32];
    lane.tid = tid;
    lane.index = tid % 32;
    lane.fiber.stack = stacks_.get(tid);
    prepare(lane.fiber, lane_main, (tid % 32) * 128 + (tid / 32 % 2) * 64);
  }
  // 1024-byte aligned, as the CUDA machine promises.
  shared_.resize(launch.config.smem + 2 * kSharedBase);
  const auto address = reinterpret_cast<uintptr_t>(shared_.data());
  running.shared = shared_.data() + (1024 - address % 1024) % 1024;
}

void Core::run_block(const LaunchInfo& launch, uint64_t linear) {
  running.core = this;
  main_.stack = {};
  start(launch, linear);
  Lane* first = next_lane(warps_[0]);
  running.lane = first;
  switch_fiber(main_, first->fiber);
  running.lane = nullptr;
  if (error_) std::rethrow_exception(error_);
}

inline void Core::switch_to(Lane& to) {
  Lane& from = *running.lane;
  running.lane = &to;
  switch_fiber(from.fiber, to.fiber);
}

inline Lane* Core::next_lane(Warp& warp) {
  const uint32_t ready = warp.ready();
  return ready == 0 ? nullptr : &warp.lanes[std::countr_zero(ready)];
}

// The next warp after `current`, cyclically, that can run; null when none can.
Warp* Core::next_warp(Warp& current) {
  for (uint32_t step = 1; step <= block_.warp_count; ++step) {
    Warp& warp = warps_[(current.index + step) % block_.warp_count];
    if (warp.ready() != 0) return &warp;
  }
  return nullptr;
}

// Who runs after the current lane had to stop; throws when nobody can.
Lane* Core::next(Warp& current) {
  if (Lane* lane = next_lane(current)) return lane;
  if (!current.blocked && current.waiting != 0) check_stuck(current);
  Warp* warp = next_warp(current);
  if (warp == nullptr) report_deadlock();
  return next_lane(*warp);
}

void Core::arrive(const Arrival& arrival) {
  Lane& me = *running.lane;
  Warp& warp = *me.warp;
  me.arrival = arrival;
  if (warp.waiting == 0) {
    warp.arrival = arrival;
    warp.mixed = false;
  } else if (arrival.operation != warp.arrival.operation || arrival.mask != warp.arrival.mask ||
             arrival.operand != warp.arrival.operand) {
    warp.mixed = true;
  }
  warp.waiting |= 1u << me.index;
  const uint32_t group = arrival.mask & warp.live;
  if ((group & ~warp.waiting) == 0) {
    complete(warp, group);
    if (!warp.blocked) return;
  }
  switch_to(*next(warp));
}

// Every lane of `group` has arrived: they must agree, then the instruction runs and sets them free.
void Core::complete(Warp& warp, uint32_t group) {
  const Arrival& arrival = warp.lanes[std::countr_zero(group)].arrival;
  if (warp.mixed) require_agreement(warp, group);
  warp.waiting &= ~group;
  ++block_.steps;
  arrival.operation->complete(warp, group);
}

void Core::arrive_at_barrier(Warp& warp, uint32_t id, uint32_t threads, bool wait) {
  Barrier& barrier = block_.barriers[id];
  barrier.arrived += 32;
  barrier.expected = threads;
  if (wait) {
    barrier.warps |= 1u << warp.index;
    warp.blocked = true;
    warp.arrival = warp.lanes[std::countr_zero(warp.live)].arrival;
  }
  if (barrier.arrived >= (threads == 0 ? 32 * block_.live_warps : threads)) release(barrier);
}

void Core::release(Barrier& barrier) {
  for (uint32_t warps = barrier.warps; warps != 0; warps &= warps - 1) {
    warps_[std::countr_zero(warps)].blocked = false;
  }
  barrier = Barrier{};
}

void Core::exit_lane() {
  Lane& me = *running.lane;
  Warp& warp = *me.warp;
  warp.live &= ~(1u << me.index);
  try {
    if (warp.live == 0) {
      // Exited threads no longer count for the block's own barrier.
      --block_.live_warps;
      Barrier& own = block_.barriers[0];
      if (own.warps != 0 && own.expected == 0 && own.arrived >= 32 * block_.live_warps) release(own);
    } else if (warp.waiting != 0) {
      // The siblings may have waited for this lane alone.
      const uint32_t group = warp.lanes[std::countr_zero(warp.waiting)].arrival.mask & warp.live;
      if ((group & ~warp.waiting) == 0) complete(warp, group);
    }
    if (block_.live_warps != 0) {
      Lane* lane = next(warp);
      running.lane = lane;
      leave_fiber(me.fiber, lane->fiber);
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

void Core::check_stuck(const Warp& warp) const { report_divergence(warp); }

void Core::report_deadlock() const { sim::report_deadlock(*launch_, block_, warps_.data()); }

}  // namespace rk::sim
