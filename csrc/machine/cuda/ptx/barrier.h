// bar.sync, bar.arrive (PTX ISA 9.7.13.1): barriers of a block.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

// Barrier 0, all threads of the block.
RK_DEVICE void barrier_sync() { asm volatile("bar.sync 0;" ::: "memory"); }

// Named barrier: waits until `threads` threads (a multiple of 32) have arrived. The id is an immediate, so
// that ptxas reserves one barrier and not all sixteen.
template <int kId>
RK_DEVICE void barrier_sync(uint32_t threads) {
  static_assert(kId >= 1 && kId < 16, "named barriers are 1 to 15; 0 is the block's own");
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "r"(threads) : "memory");
}

template <int kId>
RK_DEVICE void barrier_arrive(uint32_t threads) {
  static_assert(kId >= 1 && kId < 16, "named barriers are 1 to 15; 0 is the block's own");
  asm volatile("bar.arrive %0, %1;" ::"n"(kId), "r"(threads) : "memory");
}

}  // namespace ptx
