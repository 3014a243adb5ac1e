// Hooks of the instructions that order others and of those that are only counted; checked build only.
#pragma once

#include <cstdint>

#include "checks/sites.h"
#include "engine/core.h"

namespace rk::sim {

// False where a mutant leaves the instruction out.
bool enabled(Site site, SiteKind kind);

// bar.warp.sync of `lanes`: what each did before is ordered before what the others do after.
void meet(const Warp& warp, uint32_t lanes);

void count_macs(uint32_t macs);

// What the checks keep of mbarriers (checks/mbarrier_checks.cpp).
void mbarrier_created(const MbarrierRef& mbarrier, uint32_t address, Site site);
void mbarrier_destroyed(const MbarrierRef& mbarrier);
void mbarrier_arrival(const MbarrierRef& mbarrier);
void mbarrier_awaited(const MbarrierRef& mbarrier);
void phase_ended(const MbarrierRef& mbarrier);
void require_initialised(const MbarrierRef& mbarrier, const char* what, Site site);
void require_fenced(const MbarrierRef& mbarrier, const char* what, Site site);
void fence_mbarrier_init();
void fence_proxy_async();
void griddep_awaited();

}  // namespace rk::sim
