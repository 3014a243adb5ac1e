// ld.global, ld.global.nc, st.global (PTX ISA 9.7.9.8, 9.7.9.9, 9.7.9.11), 1 to 16 bytes, aligned to their
// size.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "checks/memory.h"
#include "machine/words.h"

namespace ptx {
namespace detail {
template <class T>
constexpr bool kGlobalAccess =
    sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16;
}  // namespace detail

// Memory that this kernel, too, may write.
template <class T>
RK_DEVICE T ld_global(const T* address, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(detail::kGlobalAccess<T>, "a global load moves 1, 2, 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_global_load(address, sizeof(T), false, site);
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

// Memory that stays unchanged while the kernel runs.
template <class T>
RK_DEVICE T ld_global_nc(const T* address, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(detail::kGlobalAccess<T>, "a global load moves 1, 2, 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_global_load(address, sizeof(T), true, site);
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

template <class T>
RK_DEVICE void st_global(T* address, T value, rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(detail::kGlobalAccess<T>, "a global store moves 1, 2, 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) rk::sim::check_global_store(address, sizeof(T), site);
  std::memcpy(address, &value, sizeof(T));
}

}  // namespace ptx
