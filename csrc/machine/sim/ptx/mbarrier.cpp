#include <ptx/mbarrier.h>

#include "checks/ordering.h"
#include "engine/mbarrier.h"
#include "engine/report.h"
#include "engine/window.h"

namespace ptx {
namespace {

using rk::sim::kChecked;
using rk::sim::MbarrierRef;
using rk::sim::Site;
using rk::sim::SiteKind;

// Arrivals of threads give others a chance to run, as warp instructions do.
void arrive(const MbarrierRef& ref, Site site) {
  rk::sim::arrive_at_mbarrier(ref, site);
  if constexpr (kChecked) rk::sim::running.core->schedule_point();
}

}  // namespace

void mbarrier_init(uint32_t mbarrier, uint32_t arrivals, Site site) {
  rk::sim::init_mbarrier(mbarrier, arrivals, site);
}

void mbarrier_inval(uint32_t mbarrier, Site site) { rk::sim::invalidate_mbarrier(mbarrier, site); }

void mbarrier_arrive(uint32_t mbarrier, Site site) {
  if constexpr (kChecked) {
    if (!rk::sim::enabled(site, SiteKind::mbarrier_arrive)) return;
  }
  if (mbarrier >> rk::sim::kRankShift != 0) {
    rk::sim::report("mbarrier_arrive with an address of mapa: that is mbarrier_arrive_cluster", site);
  }
  const MbarrierRef ref = rk::sim::mbarrier_at(mbarrier, "mbarrier_arrive", site);
  if constexpr (kChecked) rk::sim::require_initialised(ref, "mbarrier_arrive", site);
  arrive(ref, site);
}

void mbarrier_arrive_cluster(uint32_t mbarrier, Site site) {
  if constexpr (kChecked) {
    if (!rk::sim::enabled(site, SiteKind::mbarrier_arrive)) return;
  }
  const MbarrierRef ref = rk::sim::mbarrier_at(mbarrier, "mbarrier_arrive_cluster", site);
  if constexpr (kChecked) rk::sim::require_fenced(ref, "mbarrier_arrive_cluster", site);
  arrive(ref, site);
}

void mbarrier_arrive_expect_tx(uint32_t mbarrier, uint32_t bytes, Site site) {
  if constexpr (kChecked) {
    if (!rk::sim::enabled(site, SiteKind::mbarrier_expect_tx)) return;
  }
  const MbarrierRef ref = rk::sim::mbarrier_at(mbarrier, "mbarrier_arrive_expect_tx", site);
  if constexpr (kChecked) rk::sim::require_initialised(ref, "mbarrier_arrive_expect_tx", site);
  rk::sim::expect_bytes(ref, bytes, site);
  arrive(ref, site);
}

void mbarrier_wait(uint32_t mbarrier, uint32_t parity, Site site) {
  if constexpr (kChecked) {
    if (!rk::sim::enabled(site, SiteKind::mbarrier_wait)) return;
  }
  const MbarrierRef ref = rk::sim::mbarrier_at(mbarrier, "mbarrier_wait", site);
  if constexpr (kChecked) rk::sim::require_initialised(ref, "mbarrier_wait", site);
  rk::sim::wait_for_phase(ref, parity, site);
}

}  // namespace ptx
