// cp.async.bulk (PTX ISA 9.7.9.25.4) and the bulk groups of a thread: copies of bytes in a row, multiples of
// 16 at multiples of 16. One thread starts a copy.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

// Global to shared memory; arrives with its bytes at the mbarrier.
RK_DEVICE void bulk_load(uint32_t shared, const void* global, uint32_t bytes, uint32_t mbarrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(mbarrier)
      : "memory");
}

// Shared memory to that of another block of the cluster, arriving at an mbarrier there; both addresses from
// mapa.
RK_DEVICE void bulk_copy_cluster(uint32_t there, uint32_t shared, uint32_t bytes, uint32_t mbarrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          there),
      "r"(shared), "r"(bytes), "r"(mbarrier)
      : "memory");
}

// Shared to global memory, in the thread's current bulk group.
RK_DEVICE void bulk_store(void* global, uint32_t shared, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(shared),
               "r"(bytes)
               : "memory");
}

// Ends the thread's current group of stores.
RK_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until all but the newest kPending groups of this thread have read their shared memory; a block must
// not end before.
template <int kPending>
RK_DEVICE void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// Until they have written global memory as well.
template <int kPending>
RK_DEVICE void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ptx
