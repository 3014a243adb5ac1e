// What the checked build keeps of mbarriers: who has arrived, what a wait makes visible, and whether others
// may rely on the initialisation.
#include "checks/checks.h"
#include "engine/report.h"

namespace rk::sim {

void Checks::mbarrier_created(const MbarrierRef& mbarrier, uint32_t address, Site site) {
  const Lane& lane = *running.lane;
  const SiteId id = sites_.id(site, SiteKind::mbarrier_init);
  require_none(own_shadow().begin_mbarrier({lane.thread, id}, address, kMbarrierBytes, launch_->races()),
               lane, "mbarrier_init", site);
  MbarrierState& state = of(*mbarrier.block).mbarriers.emplace_back();
  state.agent = clocks_.add_agent();
  state.owner = lane.thread;
  state.initialised = clocks_.now(lane.thread);
}

void Checks::mbarrier_destroyed(const MbarrierRef& mbarrier) {
  of(*mbarrier.block).shadow.end_mbarrier(mbarrier->address, kMbarrierBytes);
}

void Checks::mbarrier_arrival(const MbarrierRef& mbarrier) {
  clocks_.release(running.lane->thread, of(mbarrier).meeting);
}

void Checks::mbarrier_awaited(const MbarrierRef& mbarrier) {
  if (of(mbarrier).outcome) clocks_.learn(running.lane->thread, of(mbarrier).outcome);
}

void Checks::phase_ended(const MbarrierRef& mbarrier) {
  MbarrierState& state = of(mbarrier);
  Clocks::release_agent(state.agent, mbarrier->phase, state.meeting);
  state.outcome = Clocks::outcome(state.meeting);
  state.meeting.clear();
}

void Checks::fence_mbarrier_init() {
  for (MbarrierState& state : of(core_.block()).mbarriers) {
    state.fenced |= state.owner == running.lane->thread;
  }
}

void Checks::require_initialised(const MbarrierRef& mbarrier, const char* what, Site site) {
  const MbarrierState& state = of(mbarrier);
  if (!launch_->races() || clocks_.before(state.owner, state.initialised, running.lane->thread)) return;
  report(std::string("data race: ") + what + " is not ordered after the mbarrier_init of " +
             thread_name(state.owner),
         site);
}

void Checks::require_fenced(const MbarrierRef& mbarrier, const char* what, Site site) {
  require_initialised(mbarrier, what, site);
  if (!launch_->races() || of(mbarrier).fenced) return;
  report(std::string(what) + " at an mbarrier without a fence.mbarrier_init after its initialisation by " +
             thread_name(of(mbarrier).owner),
         site);
}

}  // namespace rk::sim
