// Exchanges within a warp: bar.warp.sync, shfl.sync, vote.sync, elect.sync (PTX ISA 9.7.13.2,
// 9.7.9.6, 9.7.13.9, 9.7.13.14).
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

namespace ptx {

RK_DEVICE void warp_sync(uint32_t mask = 0xffffffffu) {
  asm volatile("bar.warp.sync %0;" ::"r"(mask) : "memory");
}

namespace detail {
template <class T>
RK_DEVICE uint32_t to_word(T value) {
  static_assert(sizeof(T) == 4, "a shuffle moves one 32-bit register");
  uint32_t word;
  memcpy(&word, &value, 4);
  return word;
}
template <class T>
RK_DEVICE T from_word(uint32_t word) {
  T value;
  memcpy(&value, &word, 4);
  return value;
}
}  // namespace detail

template <class T>
RK_DEVICE T shfl_xor(T value, uint32_t lane_mask) {
  uint32_t word;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;"
               : "=r"(word)
               : "r"(detail::to_word(value)), "r"(lane_mask));
  return detail::from_word<T>(word);
}

// Lane l receives from lane l + delta; lanes past the end keep their own value.
template <class T>
RK_DEVICE T shfl_down(T value, uint32_t delta) {
  uint32_t word;
  asm volatile("shfl.sync.down.b32 %0, %1, %2, 31, 0xffffffff;"
               : "=r"(word)
               : "r"(detail::to_word(value)), "r"(delta));
  return detail::from_word<T>(word);
}

// Lane l receives from lane l - delta; lanes before the start keep their own value.
template <class T>
RK_DEVICE T shfl_up(T value, uint32_t delta) {
  uint32_t word;
  asm volatile("shfl.sync.up.b32 %0, %1, %2, 0, 0xffffffff;"
               : "=r"(word)
               : "r"(detail::to_word(value)), "r"(delta));
  return detail::from_word<T>(word);
}

template <class T>
RK_DEVICE T shfl_idx(T value, uint32_t lane) {
  uint32_t word;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;"
               : "=r"(word)
               : "r"(detail::to_word(value)), "r"(lane));
  return detail::from_word<T>(word);
}

RK_DEVICE uint32_t ballot(bool predicate) {
  uint32_t lanes;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
               : "=r"(lanes)
               : "r"(static_cast<uint32_t>(predicate)));
  return lanes;
}

// True in one lane of the warp, always the same (elect.sync, PTX ISA 9.7.13.14; sm_90). All lanes execute it.
RK_DEVICE bool elect_one() {
  uint32_t elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(elected));
  return elected != 0;
}

RK_DEVICE bool any(bool predicate) { return ballot(predicate) != 0; }
RK_DEVICE bool all(bool predicate) { return ballot(predicate) == 0xffffffffu; }

}  // namespace ptx
