// ld.shared, st.shared (PTX ISA 9.7.9.8, 9.7.9.11), 2 to 16 bytes, aligned to their size.
// Addresses are 32-bit offsets in the shared window, starting at smem_base().
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "checks/memory.h"
#include "machine/words.h"

namespace ptx {

// Start of the block's dynamic shared memory, 1024-byte aligned: a 128-byte swizzle repeats every 1024 bytes.
RK_DEVICE uint32_t smem_base() { return rk::sim::kSharedBase; }

template <class T>
RK_DEVICE T ld_shared(uint32_t address, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16,
                "a shared load moves 2, 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_shared_load(address, sizeof(T), site);
  T value;
  std::memcpy(&value, rk::sim::running.shared + address, sizeof(T));
  return value;
}

template <class T>
RK_DEVICE void st_shared(uint32_t address, T value, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16,
                "a shared store moves 2, 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_shared_store(address, sizeof(T), site);
  std::memcpy(rk::sim::running.shared + address, &value, sizeof(T));
}

}  // namespace ptx
