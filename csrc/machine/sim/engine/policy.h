// Which warp and which lane go next, as the schedule says. Checked build only: the fast build takes the
// first.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/schedule.h"

namespace rk::sim {

class Policy {
 public:
  // A cluster of `warps` warps begins. `random` belongs to the cluster.
  void begin(const Schedule& schedule, uint32_t warps, Random& random);

  // A warp of `runnable` (a mask, not 0), after `current` has done a step or had to stop; `steps` warp
  // instructions have run in the cluster.
  uint32_t warp(uint32_t current, uint64_t runnable, uint64_t steps);

  // The warp of `runnable` that begins.
  uint32_t first_warp(uint64_t runnable);

  // A lane of `ready` (a mask, not 0).
  uint32_t lane(uint32_t ready);

  // Does the schedule change lanes at instructions other than rendezvous?
  bool restless() const {
    return schedule_.kind == Kind::pct || schedule_.pacing == Pacing::random ||
           schedule_.order == Order::random;
  }

 private:
  uint32_t pick(uint64_t mask);

  Schedule schedule_;
  Random* random_ = nullptr;
  uint64_t round_ = 0;              // lockstep: warps that have yet to step in this round
  std::vector<uint32_t> priority_;  // pct: by warp, higher goes first
  std::vector<uint64_t>
      change_points_;  // pct: steps at which the running warp falls behind all others, descending
  uint32_t lowest_ = 0;
};

}  // namespace rk::sim
