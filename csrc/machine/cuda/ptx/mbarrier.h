// mbarrier (PTX ISA 9.7.13.15): barriers in shared memory on which threads and bulk copies arrive.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

// Eight bytes at a multiple of eight. `arrivals` end a phase, with the bytes expected in it. One thread does
// it; others rely on it after a barrier, copies and other blocks after fence_mbarrier_init as well.
RK_DEVICE void mbarrier_init(uint32_t mbarrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mbarrier), "r"(arrivals) : "memory");
}

// The memory may be used for something else.
RK_DEVICE void mbarrier_inval(uint32_t mbarrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(mbarrier) : "memory");
}

// One arrival; what the thread did before is ordered before what those do who wait for the phase.
RK_DEVICE void mbarrier_arrive(uint32_t mbarrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mbarrier) : "memory");
}

// The same at an mbarrier of another block of the cluster, whose address mapa gave. It tells that block that
// a stage was read and may be refilled; what st_cluster wrote takes a cluster barrier to be seen, since an
// arrival of cluster scope flushes, and a wait of cluster scope empties, the whole L1 cache.
RK_DEVICE void mbarrier_arrive_cluster(uint32_t mbarrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(mbarrier) : "memory");
}

// The current phase has to receive `bytes` more from copies; then one arrival.
RK_DEVICE void mbarrier_arrive_expect_tx(uint32_t mbarrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mbarrier), "r"(bytes)
               : "memory");
}

// Returns when the phase of this parity (0 for the first, then 1, 0, ...) has ended; a phase is over for
// whoever asks for the one before it. try_wait sleeps for a while by itself: hence the loop.
RK_DEVICE void mbarrier_wait(uint32_t mbarrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@!over bra again;\n"
      "}" ::"r"(mbarrier),
      "r"(parity)
      : "memory");
}

}  // namespace ptx
