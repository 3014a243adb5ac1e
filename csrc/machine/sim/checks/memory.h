// Hooks that the ptx functions of the checked build call before they touch memory. Each throws a Report when the access is
// out of bounds, misaligned, of the wrong role, uninitialised or racing; all feed the counters.
#pragma once

#include <cstdint>

#include "engine/core.h"

namespace rk::sim {

// `constant`: ld.global.nc, whose memory nobody may write while the kernel runs.
void check_global_load(const void* address, uint32_t bytes, bool constant, Site site);
void check_global_store(void* address, uint32_t bytes, Site site);
void check_shared_load(uint32_t address, uint32_t bytes, Site site);
void check_shared_store(uint32_t address, uint32_t bytes, Site site);

// A row of an 8x8 matrix that ldmatrix hands to lanes 4 * (row % 8) to 4 * (row % 8) + 3 of `warp`.
void check_shared_row(Warp& warp, uint32_t row, uint32_t address);

}  // namespace rk::sim
