// setmaxnreg (PTX ISA 9.7.20.5): warps hand registers on to others of their block. All four warps of a
// warpgroup execute it, with the same count: a multiple of 8 from 24 to 256. Here a matter of book-keeping:
// a request that can never be met is a deadlock.
#pragma once

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {
namespace detail {
extern const rk::sim::Operation kSetmaxnregDec, kSetmaxnregInc;
}

template <int kRegisters>
constexpr bool kRegisterCount = kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0;

// Gives back all above kRegisters a thread.
template <int kRegisters>
RK_DEVICE void setmaxnreg_dec(rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kRegisterCount<kRegisters>, "setmaxnreg takes a multiple of 8 from 24 to 256");
  rk::sim::collective(detail::kSetmaxnregDec, kRegisters, site);
}

// Waits until the block has that many to give.
template <int kRegisters>
RK_DEVICE void setmaxnreg_inc(rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kRegisterCount<kRegisters>, "setmaxnreg takes a multiple of 8 from 24 to 256");
  rk::sim::collective(detail::kSetmaxnregInc, kRegisters, site);
}

}  // namespace ptx
