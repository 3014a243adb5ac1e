// Exchanges within a warp: bar.warp.sync, shfl.sync, vote.sync, elect.sync (PTX ISA 9.7.13.2,
// 9.7.9.6, 9.7.13.9, 9.7.13.14).
// Lanes that have exited are not waited for; reading from one gives all ones (a NaN).
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {
namespace detail {

uint32_t shuffle(const rk::sim::Operation& operation, uint32_t word, uint32_t operand, rk::sim::Site site);
extern const rk::sim::Operation kShflXor, kShflDown, kShflUp, kShflIdx;

template <class T>
RK_DEVICE T shuffle_value(const rk::sim::Operation& operation, T value, uint32_t operand,
                          rk::sim::Site site) {
  static_assert(sizeof(T) == 4, "a shuffle moves one 32-bit register");
  uint32_t word;
  std::memcpy(&word, &value, 4);
  word = shuffle(operation, word, operand, site);
  std::memcpy(&value, &word, 4);
  return value;
}

}  // namespace detail

// Also makes the memory accesses of the lanes before it visible to those after it.
void warp_sync(uint32_t mask = 0xffffffffu, rk::sim::Site site = rk::sim::Site::here());

template <class T>
RK_DEVICE T shfl_xor(T value, uint32_t lane_mask, rk::sim::Site site = rk::sim::Site::here()) {
  return detail::shuffle_value(detail::kShflXor, value, lane_mask, site);
}

// Lane l receives from lane l + delta; lanes past the end keep their own value.
template <class T>
RK_DEVICE T shfl_down(T value, uint32_t delta, rk::sim::Site site = rk::sim::Site::here()) {
  return detail::shuffle_value(detail::kShflDown, value, delta, site);
}

// Lane l receives from lane l - delta; lanes before the start keep their own value.
template <class T>
RK_DEVICE T shfl_up(T value, uint32_t delta, rk::sim::Site site = rk::sim::Site::here()) {
  return detail::shuffle_value(detail::kShflUp, value, delta, site);
}

template <class T>
RK_DEVICE T shfl_idx(T value, uint32_t lane, rk::sim::Site site = rk::sim::Site::here()) {
  return detail::shuffle_value(detail::kShflIdx, value, lane, site);
}

uint32_t ballot(bool predicate, rk::sim::Site site = rk::sim::Site::here());
// True in one lane of the warp, always the same (elect.sync; sm_90). All lanes execute it.
bool elect_one(rk::sim::Site site = rk::sim::Site::here());
RK_DEVICE bool any(bool predicate, rk::sim::Site site = rk::sim::Site::here()) {
  return ballot(predicate, site) != 0;
}
RK_DEVICE bool all(bool predicate, rk::sim::Site site = rk::sim::Site::here()) {
  return ballot(!predicate, site) == 0;
}

}  // namespace ptx
