// A consumer: one of the two warpgroups that multiply and end a tile's rows.
#pragma once

#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/ids.h>
#include <ptx/warp.h>

namespace rk::tile {

constexpr int kConsumers = 2;

// Barrier of the calling consumer's 128 threads. Ids are immediates; the other named barriers are 3 and up.
RK_DEVICE void consumer_barrier(uint32_t consumer) {
  if (consumer == 0) {
    ptx::barrier_sync<1>(128);
  } else {
    ptx::barrier_sync<2>(128);
  }
}

// All consumers.
RK_DEVICE void consumers_barrier() { ptx::barrier_sync<3>(kConsumers * 128); }

// The thread of a consumer that starts its stores, and waits for them: bulk groups are a thread's.
RK_DEVICE bool leads_consumer() { return ptx::tid_x() % 128 == 0; }

// Behind a branch that one lane took: barrier.cluster, like all that is .aligned, wants the whole warp.
RK_DEVICE void converge_warp() { ptx::warp_sync(); }

RK_DEVICE uint32_t warp_of_consumer() { return ptx::warp_id() % 4; }

}  // namespace rk::tile
