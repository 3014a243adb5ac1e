// Clusters of blocks: their barrier (PTX ISA 9.7.13.3), and the shared memory of the others (mapa, PTX ISA
// 9.7.9.20; ld and st with .shared::cluster).
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "machine/words.h"

namespace ptx {

RK_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
RK_DEVICE uint32_t cluster_blocks() {
  uint32_t count;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  return count;
}

// All warps of the cluster arrive, then wait; what they did before arriving is ordered before what the others
// do after waiting. A block must not end while others may still reach its memory.
RK_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
RK_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// The address that block `rank` of the cluster has for what lies at `address` in this one.
RK_DEVICE uint32_t mapa(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

// Four or sixteen bytes at an address of mapa.
template <class T>
RK_DEVICE T ld_cluster(uint32_t address) {
  T value;
  if constexpr (sizeof(T) == 4) {
    uint32_t word;
    asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
    memcpy(&value, &word, 4);
  } else {
    static_assert(sizeof(T) == 16, "a load from another block moves 4 or 16 bytes");
    Words4 w;
    asm volatile("ld.shared::cluster.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "r"(address)
                 : "memory");
    memcpy(&value, &w, 16);
  }
  return value;
}

template <class T>
RK_DEVICE void st_cluster(uint32_t address, T value) {
  if constexpr (sizeof(T) == 4) {
    uint32_t word;
    memcpy(&word, &value, 4);
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
  } else {
    static_assert(sizeof(T) == 16, "a store to another block moves 4 or 16 bytes");
    Words4 w;
    memcpy(&w, &value, 16);
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(w.word[0]),
                 "r"(w.word[1]), "r"(w.word[2]), "r"(w.word[3])
                 : "memory");
  }
}

}  // namespace ptx
