// Hooks of wgmma; checked build only.
#pragma once

#include <cstdint>

#include "engine/core.h"
#include "engine/matrix_op.h"

namespace rk::sim {

// The registers of a warp's lanes; `same`: all lanes gave the same descriptors.
struct MatrixLanes {
  WgmmaRegisters* d[32];
  WgmmaRegisters* a[32];  // null where a comes from shared memory
  bool same = true;
};

void issue_matrix_op(Warp& warp, const MatrixOp& op, const MatrixLanes& lanes);

// An ordinary instruction touches the registers.
void touch_registers(WgmmaRegisters& registers, Site site);

// The instructions themselves; false where a mutant leaves them out. What they do with a register they name:
bool wgmma_fence(Site site);
void wgmma_commit(Site site);
bool wgmma_wait(uint32_t pending, Site site);
void fence_registers(WgmmaRegisters& registers);
void await_registers(WgmmaRegisters& registers);

}  // namespace rk::sim
