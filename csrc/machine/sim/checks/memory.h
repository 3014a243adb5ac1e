// Hooks that the ptx functions of the checked build call before they touch memory. Each throws a Report when
// the access is out of bounds, misaligned, of the wrong role, uninitialised or racing; all feed the counters.
#pragma once

#include <cstdint>

#include "engine/core.h"

namespace rk::sim {

// `constant`: ld.global.nc, whose memory nobody may write while the kernel runs.
void check_global_load(const void* address, uint32_t bytes, bool constant, Site site);
void check_global_store(void* address, uint32_t bytes, Site site);
void check_shared_load(uint32_t address, uint32_t bytes, Site site);
void check_shared_store(uint32_t address, uint32_t bytes, Site site);

// The same in another block of the cluster, at an address of mapa.
void check_cluster_load(uint32_t address, uint32_t bytes, Site site);
void check_cluster_store(uint32_t address, uint32_t bytes, Site site);

// ldmatrix of `count` matrices, whose row addresses stand in word 0 of the lanes' slots.
void check_matrices(Warp& warp, uint32_t count);
void check_matrix_stores(Warp& warp, uint32_t count);  // stmatrix, likewise

}  // namespace rk::sim
