// The registers of a block (setmaxnreg, PTX ISA 9.7.20.5): a multiprocessor has 65,536; a launch gives each
// thread an equal share, in units of eight, and warps may hand them on.
#pragma once

#include <algorithm>
#include <cstdint>

namespace rk::sim {

struct Warp;

struct RegisterPool {
  static constexpr uint32_t kRegisters = 65536;

  uint32_t free = 0;       // released and not taken again
  uint32_t of_thread[32];  // by warp
  Warp* waiting[32];       // warps that want more than are free
  uint32_t wanted[32];     // registers a thread, by entry of `waiting`
  uint32_t waiting_count = 0;

  void begin(uint32_t threads, uint32_t min_blocks) {
    const uint32_t share = kRegisters / (std::max(threads, 1u) * std::max(min_blocks, 1u));
    std::fill_n(of_thread, 32, std::min(share, 255u) / 8 * 8);
  }
};

}  // namespace rk::sim
