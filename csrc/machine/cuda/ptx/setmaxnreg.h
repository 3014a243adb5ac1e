// setmaxnreg (PTX ISA 9.7.20.5): warps hand registers on to others of their block. All four warps of a
// warpgroup execute it, with the same count: a multiple of 8 from 24 to 256.
#pragma once

#include <ptx/target.h>

namespace ptx {

template <int kRegisters>
constexpr bool kRegisterCount = kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0;

// Gives back all above kRegisters a thread.
template <int kRegisters>
RK_DEVICE void setmaxnreg_dec() {
  static_assert(kRegisterCount<kRegisters>, "setmaxnreg takes a multiple of 8 from 24 to 256");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Waits until the block has that many to give.
template <int kRegisters>
RK_DEVICE void setmaxnreg_inc() {
  static_assert(kRegisterCount<kRegisters>, "setmaxnreg takes a multiple of 8 from 24 to 256");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace ptx
