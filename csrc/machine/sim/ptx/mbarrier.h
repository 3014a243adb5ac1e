// mbarrier (PTX ISA 9.7.13.15): barriers in shared memory on which threads and bulk copies arrive.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/site.h"

namespace ptx {

// Eight bytes at a multiple of eight. `arrivals` end a phase, with the bytes expected in it. One thread does
// it; others rely on it after a barrier, copies and other blocks after fence_mbarrier_init as well.
void mbarrier_init(uint32_t mbarrier, uint32_t arrivals, rk::sim::Site site = rk::sim::Site::here());

// The memory may be used for something else.
void mbarrier_inval(uint32_t mbarrier, rk::sim::Site site = rk::sim::Site::here());

// One arrival; what the thread did before is ordered before what those do who wait for the phase.
void mbarrier_arrive(uint32_t mbarrier, rk::sim::Site site = rk::sim::Site::here());

// The same at an mbarrier of another block of the cluster, whose address mapa gave. It tells that block that
// a stage was read and may be refilled; what st_cluster wrote takes a cluster barrier to be seen, since an
// arrival of cluster scope flushes, and a wait of cluster scope empties, the whole L1 cache.
void mbarrier_arrive_cluster(uint32_t mbarrier, rk::sim::Site site = rk::sim::Site::here());

// The current phase has to receive `bytes` more from copies; then one arrival.
void mbarrier_arrive_expect_tx(uint32_t mbarrier, uint32_t bytes, rk::sim::Site site = rk::sim::Site::here());

// Returns when the phase of this parity (0 for the first, then 1, 0, ...) has ended; a phase is over for
// whoever asks for the one before it.
void mbarrier_wait(uint32_t mbarrier, uint32_t parity, rk::sim::Site site = rk::sim::Site::here());

}  // namespace ptx
