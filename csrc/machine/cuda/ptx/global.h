// ld.global, ld.global.nc, st.global (PTX ISA 9.7.9.8, 9.7.9.9, 9.7.9.11), 1 to 16 bytes, aligned to their
// size.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "machine/words.h"

namespace ptx {
namespace detail {

template <class T>
RK_DEVICE T ld_global_bytes(const T* address) {
  T value;
  if constexpr (sizeof(T) == 1) {
    uint32_t byte;
    asm volatile("ld.global.u8 %0, [%1];" : "=r"(byte) : "l"(address) : "memory");
    const auto narrow = static_cast<uint8_t>(byte);
    memcpy(&value, &narrow, 1);
  } else if constexpr (sizeof(T) == 2) {
    uint16_t half;
    asm volatile("ld.global.b16 %0, [%1];" : "=h"(half) : "l"(address) : "memory");
    memcpy(&value, &half, 2);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    asm volatile("ld.global.b32 %0, [%1];" : "=r"(word) : "l"(address) : "memory");
    memcpy(&value, &word, 4);
  } else if constexpr (sizeof(T) == 8) {
    Words2 w;
    asm volatile("ld.global.v2.b32 {%0, %1}, [%2];"
                 : "=r"(w.word[0]), "=r"(w.word[1])
                 : "l"(address)
                 : "memory");
    memcpy(&value, &w, 8);
  } else {
    static_assert(sizeof(T) == 16, "a global load moves 1, 2, 4, 8 or 16 bytes");
    Words4 w;
    asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "l"(address)
                 : "memory");
    memcpy(&value, &w, 16);
  }
  return value;
}

// Not volatile and without a clobber: the data is constant during the kernel, so loads may be hoisted and
// reordered.
template <class T>
RK_DEVICE T ld_global_nc_bytes(const T* address) {
  T value;
  if constexpr (sizeof(T) == 1) {
    uint32_t byte;
    asm("ld.global.nc.u8 %0, [%1];" : "=r"(byte) : "l"(address));
    const auto narrow = static_cast<uint8_t>(byte);
    memcpy(&value, &narrow, 1);
  } else if constexpr (sizeof(T) == 2) {
    uint16_t half;
    asm("ld.global.nc.b16 %0, [%1];" : "=h"(half) : "l"(address));
    memcpy(&value, &half, 2);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    asm("ld.global.nc.b32 %0, [%1];" : "=r"(word) : "l"(address));
    memcpy(&value, &word, 4);
  } else if constexpr (sizeof(T) == 8) {
    Words2 w;
    asm("ld.global.nc.v2.b32 {%0, %1}, [%2];" : "=r"(w.word[0]), "=r"(w.word[1]) : "l"(address));
    memcpy(&value, &w, 8);
  } else {
    static_assert(sizeof(T) == 16, "a global load moves 1, 2, 4, 8 or 16 bytes");
    Words4 w;
    asm("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
        : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
        : "l"(address));
    memcpy(&value, &w, 16);
  }
  return value;
}

}  // namespace detail

// Memory that this kernel, too, may write.
template <class T>
RK_DEVICE T ld_global(const T* address) {
  return detail::ld_global_bytes(address);
}

// Memory that stays unchanged while the kernel runs.
template <class T>
RK_DEVICE T ld_global_nc(const T* address) {
  return detail::ld_global_nc_bytes(address);
}

template <class T>
RK_DEVICE void st_global(T* address, T value) {
  if constexpr (sizeof(T) == 1) {
    uint8_t byte;
    memcpy(&byte, &value, 1);
    asm volatile("st.global.u8 [%0], %1;" ::"l"(address), "r"(static_cast<uint32_t>(byte)) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    uint16_t half;
    memcpy(&half, &value, 2);
    asm volatile("st.global.b16 [%0], %1;" ::"l"(address), "h"(half) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    memcpy(&word, &value, 4);
    asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(word) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    Words2 w;
    memcpy(&w, &value, 8);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(w.word[0]), "r"(w.word[1])
                 : "memory");
  } else {
    static_assert(sizeof(T) == 16, "a global store moves 1, 2, 4, 8 or 16 bytes");
    Words4 w;
    memcpy(&w, &value, 16);
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(w.word[0]), "r"(w.word[1]),
                 "r"(w.word[2]), "r"(w.word[3])
                 : "memory");
  }
}

}  // namespace ptx
