// Fences (PTX ISA 9.7.13.4): between the generic and the async proxy, and after the initialisation of
// mbarriers.
#pragma once

#include <ptx/target.h>

#include "checks/ordering.h"

namespace ptx {

// What generic instructions wrote to shared memory, and is ordered before this, becomes visible to bulk
// copies and wgmma that are ordered after it.
RK_DEVICE void fence_proxy_async(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (rk::sim::enabled(site, rk::sim::SiteKind::fence_proxy_async)) rk::sim::fence_proxy_async();
  }
}

// The mbarriers that this thread has initialised may be used by copies and, after a cluster barrier, by other
// blocks.
RK_DEVICE void fence_mbarrier_init(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (rk::sim::enabled(site, rk::sim::SiteKind::fence_mbarrier_init)) rk::sim::fence_mbarrier_init();
  }
}

}  // namespace ptx
