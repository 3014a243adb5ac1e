// griddepcontrol (PTX ISA 9.7.13.13): overlap with the kernel before and after in the stream, for launches
// with LaunchConfig::pdl. Kernels run one after another here; the checked build reports what a kernel does
// before it may.
#pragma once

#include <ptx/target.h>

#include "checks/ordering.h"

namespace ptx {

// Returns when the kernels before have ended and what they wrote is visible. Nothing that they may write is
// to be read, and nothing that they may read is to be written, before it.
RK_DEVICE void griddep_wait(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) {
    if (rk::sim::enabled(site, rk::sim::SiteKind::griddep_wait)) rk::sim::griddep_awaited();
  }
}

// The next kernel may start as soon as all blocks have said so, or have ended.
RK_DEVICE void griddep_launch_dependents() {}

}  // namespace ptx
