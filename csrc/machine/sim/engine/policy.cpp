#include "engine/policy.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

namespace rk::sim {
namespace {

constexpr uint32_t kFirstPriority = 1u << 20;

uint32_t lowest(uint64_t mask) { return static_cast<uint32_t>(std::countr_zero(mask)); }
uint32_t highest(uint64_t mask) { return 63 - static_cast<uint32_t>(std::countl_zero(mask)); }

}  // namespace

void Policy::begin(const Schedule& schedule, uint32_t warps, Random& random) {
  schedule_ = schedule;
  random_ = &random;
  round_ = ~uint64_t{0};
  if (schedule.kind != Kind::pct) return;
  priority_.resize(warps);
  std::iota(priority_.begin(), priority_.end(), kFirstPriority);
  for (uint32_t i = warps; i > 1; --i) std::swap(priority_[i - 1], priority_[random.below(i)]);
  lowest_ = kFirstPriority;
  // Where a cluster's instructions end is not known beforehand: early points are drawn as often as late ones.
  change_points_.clear();
  for (uint32_t i = 0; i < schedule.changes; ++i) {
    const uint32_t scale = 1u << random.below(16);
    change_points_.push_back(scale + random.below(scale));
  }
  std::sort(change_points_.begin(), change_points_.end(), std::greater<>());
}

uint32_t Policy::pick(uint64_t mask) {
  switch (schedule_.order) {
    case Order::forward: return lowest(mask);
    case Order::reverse: return highest(mask);
    case Order::random: break;
  }
  for (uint32_t skip = random_->below(static_cast<uint32_t>(std::popcount(mask))); skip != 0; --skip)
    mask &= mask - 1;
  return lowest(mask);
}

uint32_t Policy::lane(uint32_t ready) { return pick(ready); }

uint32_t Policy::first_warp(uint64_t runnable) {
  return schedule_.kind == Kind::pct ? warp(0, runnable, 0) : pick(runnable);
}

uint32_t Policy::warp(uint32_t current, uint64_t runnable, uint64_t steps) {
  if (schedule_.kind == Kind::pct) {
    while (!change_points_.empty() && steps >= change_points_.back()) {
      change_points_.pop_back();
      priority_[current] = --lowest_;
    }
    uint32_t best = lowest(runnable);
    for (uint64_t mask = runnable; mask != 0; mask &= mask - 1) {
      if (priority_[lowest(mask)] > priority_[best]) best = lowest(mask);
    }
    return best;
  }
  switch (schedule_.pacing) {
    case Pacing::run_ahead: return runnable >> current & 1 ? current : pick(runnable);
    case Pacing::lockstep: {
      round_ &= ~(uint64_t{1} << current);
      if ((runnable & round_) == 0) round_ = ~uint64_t{0};
      return pick(runnable & round_);
    }
    case Pacing::random: break;
  }
  for (uint32_t skip = random_->below(static_cast<uint32_t>(std::popcount(runnable))); skip != 0; --skip) {
    runnable &= runnable - 1;
  }
  return lowest(runnable);
}

}  // namespace rk::sim
