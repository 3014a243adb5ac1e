// Clusters of blocks: their barrier (PTX ISA 9.7.13.3), and the shared memory of the others (mapa, PTX ISA
// 9.7.9.20; ld and st with .shared::cluster).
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "checks/memory.h"
#include "engine/window.h"

namespace ptx {

RK_DEVICE uint32_t cluster_rank() { return rk::sim::running.core->block().rank; }
RK_DEVICE uint32_t cluster_blocks() { return static_cast<uint32_t>(rk::sim::running.core->blocks().size()); }

// All warps of the cluster arrive, then wait; what they did before arriving is ordered before what the others
// do after waiting. A block must not end while others may still reach its memory.
void cluster_arrive(rk::sim::Site site = rk::sim::Site::here());
void cluster_wait(rk::sim::Site site = rk::sim::Site::here());

// The address that block `rank` of the cluster has for what lies at `address` in this one.
RK_DEVICE uint32_t mapa(uint32_t address, uint32_t rank) {
  return rk::sim::local_address(address) | (rank + 1) << rk::sim::kRankShift;
}

// Four or sixteen bytes at an address of mapa.
template <class T>
RK_DEVICE T ld_cluster(uint32_t address, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 16, "a load from another block moves 4 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_cluster_load(address, sizeof(T), site);
  const rk::sim::Block& block = rk::sim::block_of(address, "ld_cluster", site);
  T value;
  std::memcpy(&value, block.shared + rk::sim::local_address(address), sizeof(T));
  return value;
}

template <class T>
RK_DEVICE void st_cluster(uint32_t address, T value, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 16, "a store to another block moves 4 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_cluster_store(address, sizeof(T), site);
  const rk::sim::Block& block = rk::sim::block_of(address, "st_cluster", site);
  std::memcpy(block.shared + rk::sim::local_address(address), &value, sizeof(T));
}

}  // namespace ptx
