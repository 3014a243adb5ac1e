// cp.async.bulk (PTX ISA 9.7.9.25.4) and the bulk groups of a thread: copies of bytes in a row, multiples of
// 16 at multiples of 16. One thread starts a copy.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/bulk.h"

namespace ptx {

// Global to shared memory; arrives with its bytes at the mbarrier.
RK_DEVICE void bulk_load(uint32_t shared, const void* global, uint32_t bytes, uint32_t mbarrier,
                         rk::sim::Site site = rk::sim::Site::here()) {
  rk::sim::bulk_load(rk::sim::BulkCopy::row(global, bytes), shared, mbarrier, 0, site);
}

// Shared memory to that of another block of the cluster, arriving at an mbarrier there; both addresses from
// mapa.
RK_DEVICE void bulk_copy_cluster(uint32_t there, uint32_t shared, uint32_t bytes, uint32_t mbarrier,
                                 rk::sim::Site site = rk::sim::Site::here()) {
  rk::sim::bulk_copy_cluster(there, shared, bytes, mbarrier, site);
}

// Shared to global memory, in the thread's current bulk group.
RK_DEVICE void bulk_store(void* global, uint32_t shared, uint32_t bytes,
                          rk::sim::Site site = rk::sim::Site::here()) {
  rk::sim::bulk_store(rk::sim::BulkCopy::row(global, bytes), shared, site);
}

// Ends the thread's current group of stores.
RK_DEVICE void bulk_commit(rk::sim::Site site = rk::sim::Site::here()) { rk::sim::bulk_commit(site); }

// Waits until all but the newest kPending groups of this thread have read their shared memory; a block must
// not end before.
template <int kPending>
RK_DEVICE void bulk_wait_read(rk::sim::Site site = rk::sim::Site::here()) {
  rk::sim::bulk_wait(kPending, site);
}

// Until they have written global memory as well.
template <int kPending>
RK_DEVICE void bulk_wait(rk::sim::Site site = rk::sim::Site::here()) {
  rk::sim::bulk_wait(kPending, site);
}

}  // namespace ptx
