// Who am I: special registers (PTX ISA 10). Blocks are one-dimensional.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/core.h"

namespace ptx {

RK_DEVICE uint32_t tid_x() { return rk::sim::lane().tid; }
RK_DEVICE uint32_t ntid_x() { return rk::sim::running.core->block().threads; }
RK_DEVICE uint32_t ctaid_x() { return rk::sim::running.core->block().index.x; }
RK_DEVICE uint32_t ctaid_y() { return rk::sim::running.core->block().index.y; }
RK_DEVICE uint32_t ctaid_z() { return rk::sim::running.core->block().index.z; }
RK_DEVICE uint32_t nctaid_x() { return rk::sim::running.core->launch().config.grid.x; }
RK_DEVICE uint32_t nctaid_y() { return rk::sim::running.core->launch().config.grid.y; }
RK_DEVICE uint32_t nctaid_z() { return rk::sim::running.core->launch().config.grid.z; }
RK_DEVICE uint32_t lane_id() { return rk::sim::lane().index; }
RK_DEVICE uint32_t warp_id() { return rk::sim::lane().warp->index; }

}  // namespace ptx
