// Fences (PTX ISA 9.7.13.4): between the generic and the async proxy, and after the initialisation of
// mbarriers.
#pragma once

#include <ptx/target.h>

namespace ptx {

// What generic instructions wrote to shared memory, and is ordered before this, becomes visible to bulk
// copies and wgmma that are ordered after it.
RK_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The mbarriers that this thread has initialised may be used by copies and, after a cluster barrier, by other
// blocks.
RK_DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

}  // namespace ptx
