// ld.shared, st.shared (PTX ISA 9.7.9.8, 9.7.9.11), 2 to 16 bytes, aligned to their size.
// Addresses are 32-bit offsets in the shared window, starting at smem_base().
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "machine/words.h"

namespace ptx {

// Start of the block's dynamic shared memory, 1024-byte aligned: a 128-byte swizzle repeats every 1024 bytes.
RK_DEVICE uint32_t smem_base() {
  extern __shared__ __align__(1024) uint8_t rk_dynamic_shared_memory[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(rk_dynamic_shared_memory));
}

template <class T>
RK_DEVICE T ld_shared(uint32_t address) {
  T value;
  if constexpr (sizeof(T) == 2) {
    uint16_t half;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(half) : "r"(address) : "memory");
    memcpy(&value, &half, 2);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
    memcpy(&value, &word, 4);
  } else if constexpr (sizeof(T) == 8) {
    Words2 w;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
                 : "=r"(w.word[0]), "=r"(w.word[1])
                 : "r"(address)
                 : "memory");
    memcpy(&value, &w, 8);
  } else {
    static_assert(sizeof(T) == 16, "a shared load moves 2, 4, 8 or 16 bytes");
    Words4 w;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "r"(address)
                 : "memory");
    memcpy(&value, &w, 16);
  }
  return value;
}

template <class T>
RK_DEVICE void st_shared(uint32_t address, T value) {
  if constexpr (sizeof(T) == 2) {
    uint16_t half;
    memcpy(&half, &value, 2);
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(half) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    memcpy(&word, &value, 4);
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    Words2 w;
    memcpy(&w, &value, 8);
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(w.word[0]), "r"(w.word[1])
                 : "memory");
  } else {
    static_assert(sizeof(T) == 16, "a shared store moves 2, 4, 8 or 16 bytes");
    Words4 w;
    memcpy(&w, &value, 16);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(w.word[0]), "r"(w.word[1]),
                 "r"(w.word[2]), "r"(w.word[3])
                 : "memory");
  }
}

}  // namespace ptx
