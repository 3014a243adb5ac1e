// Addresses of shared memory: 32 bits, an offset in the block's window; in an address of another block of the
// cluster (mapa) the topmost byte is that block's rank plus one.
#pragma once

#include <cstdint>

#include "engine/core.h"

namespace rk::sim {

inline uint32_t local_address(uint32_t address) { return address & ((1u << kRankShift) - 1); }

// The block whose memory the address names; a Report if the cluster has no such block.
Block& block_of(uint32_t address, const char* what, Site site);

// A Report unless [address, address + bytes) lies in the window and is aligned; about `lane`.
void require_shared_range(const Lane& lane, const char* what, uint32_t address, uint64_t bytes,
                          uint32_t alignment, Site site);
inline void require_shared_range(const char* what, uint32_t address, uint64_t bytes, uint32_t alignment,
                                 Site site) {
  require_shared_range(*running.lane, what, address, bytes, alignment, site);
}

std::string hex(uint64_t value);

}  // namespace rk::sim
