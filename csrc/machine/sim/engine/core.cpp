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
  if constexpr (kChecked) {
    std::fill(shared_.begin(), shared_.end(), uint8_t{0xff});
    const Schedule& schedule = launch.checks->schedule();
    random_ = Random(mix(schedule.seed, launch.checks->index(), linear));
    policy_.begin(schedule, warps, random_);
    checks_->begin_block(linear);
  }
}

void Core::run_block(const LaunchInfo& launch, uint64_t linear) {
  running.core = this;
  main_.stack = {};
  start(launch, linear);
  Lane& lane = first();
  running.lane = &lane;
  switch_fiber(main_, lane.fiber);
  running.lane = nullptr;
  if (error_) std::rethrow_exception(error_);
  if constexpr (kChecked) checks_->end_block();
}

inline void Core::switch_to(Lane& to) {
  Lane& from = *running.lane;
  if (&to == &from) return;
  running.lane = &to;
  switch_fiber(from.fiber, to.fiber);
}

inline Lane& Core::ready_lane(Warp& warp) {
  const uint32_t ready = warp.ready();
  return warp.lanes[kChecked ? policy_.lane(ready) : static_cast<uint32_t>(std::countr_zero(ready))];
}

uint32_t Core::runnable() const {
  uint32_t mask = 0;
  for (const Warp& warp : warps_) mask |= static_cast<uint32_t>(warp.ready() != 0) << warp.index;
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
  if (!current.blocked && current.waiting != 0) report_divergence(current);
  const uint32_t mask = runnable();
  if (mask == 0) report_deadlock(*launch_, block_, warps_.data());
  if constexpr (kChecked) return ready_lane(warps_[policy_.warp(current.index, mask, block_.steps)]);
  // Cyclically after the current one.
  const uint32_t after = mask & ~((2u << current.index) - 1);
  return ready_lane(warps_[static_cast<size_t>(std::countr_zero(after != 0 ? after : mask))]);
}

// Who runs after the current warp has done a step and could go on.
Lane& Core::scheduled(Warp& current) {
  return ready_lane(warps_[policy_.warp(current.index, runnable(), block_.steps)]);
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
    if (!warp.blocked) {
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
  ++block_.steps;
  arrival.operation->complete(warp, group);
  if constexpr (kChecked) checks_->completed(warp);
}

void Core::arrive_at_barrier(Warp& warp, uint32_t id, uint32_t threads, bool wait) {
  Barrier& barrier = block_.barriers[id];
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
  if (barrier.arrived >= (threads == 0 ? 32 * block_.live_warps : threads)) release(id);
}

void Core::release(uint32_t id) {
  Barrier& barrier = block_.barriers[id];
  for (uint32_t left = barrier.warps; left != 0; left &= left - 1) {
    Warp& warp = warps_[static_cast<size_t>(std::countr_zero(left))];
    warp.blocked = false;
    if constexpr (kChecked) checks_->released(warp, id);
  }
  if constexpr (kChecked) checks_->barrier_done(id);
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
      if constexpr (kChecked) checks_->exited(warp);
      Barrier& own = block_.barriers[0];
      if (own.warps != 0 && own.expected == 0 && own.arrived >= 32 * block_.live_warps) release(0);
    } else if (warp.waiting != 0) {
      // The siblings may have waited for this lane alone.
      const uint32_t group = warp.lanes[std::countr_zero(warp.waiting)].arrival.mask & warp.live;
      if ((group & ~warp.waiting) == 0) complete(warp, group);
    }
    if (block_.live_warps != 0) {
      Lane& lane = next(warp);
      running.lane = &lane;
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
