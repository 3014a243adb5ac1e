// cp.async and its groups (PTX ISA 9.7.9.25.3): copies from global to shared memory that run beside the
// threads.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

// Copies src_bytes and fills up to kBytes with zeros; src_bytes = 0 reads nothing. Both addresses are aligned
// to kBytes. Sixteen bytes go through L2 alone (.cg); fewer need L1 (.ca).
template <int kBytes>
RK_DEVICE void cp_async(uint32_t shared, const void* global, uint32_t src_bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async moves 4, 8 or 16 bytes");
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
                 "r"(src_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global), "n"(kBytes),
                 "r"(src_bytes)
                 : "memory");
  }
}

RK_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's newest groups are unfinished. Other threads see the data
// after a barrier.
template <int kPending>
RK_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ptx
