// bar.sync, bar.arrive (PTX ISA 9.7.13.1): barriers of a block. Both are .aligned: all lanes of a warp
// execute the same one, and the warp arrives as a whole, counting 32 threads. Exited warps no longer count
// for barrier 0.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {

void barrier_sync_at(uint32_t id, uint32_t threads, rk::sim::Site site);
void barrier_arrive_at(uint32_t id, uint32_t threads, rk::sim::Site site);

// Barrier 0, all threads of the block.
RK_DEVICE void barrier_sync(rk::sim::Site site = rk::sim::Site::here()) { barrier_sync_at(0, 0, site); }

// Named barrier: waits until `threads` threads (a multiple of 32) have arrived.
template <int kId>
RK_DEVICE void barrier_sync(uint32_t threads, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kId >= 1 && kId < 16, "named barriers are 1 to 15; 0 is the block's own");
  barrier_sync_at(kId, threads, site);
}

template <int kId>
RK_DEVICE void barrier_arrive(uint32_t threads, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kId >= 1 && kId < 16, "named barriers are 1 to 15; 0 is the block's own");
  barrier_arrive_at(kId, threads, site);
}

}  // namespace ptx
