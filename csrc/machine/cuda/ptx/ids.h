// Who am I: special registers (PTX ISA 10). Blocks are one-dimensional.
#pragma once

#include <cstdint>

#include <ptx/target.h>

namespace ptx {

RK_DEVICE uint32_t tid_x() { return threadIdx.x; }
RK_DEVICE uint32_t ntid_x() { return blockDim.x; }
RK_DEVICE uint32_t ctaid_x() { return blockIdx.x; }
RK_DEVICE uint32_t ctaid_y() { return blockIdx.y; }
RK_DEVICE uint32_t ctaid_z() { return blockIdx.z; }
RK_DEVICE uint32_t nctaid_x() { return gridDim.x; }
RK_DEVICE uint32_t nctaid_y() { return gridDim.y; }
RK_DEVICE uint32_t nctaid_z() { return gridDim.z; }
RK_DEVICE uint32_t lane_id() { return threadIdx.x % 32; }
RK_DEVICE uint32_t warp_id() { return threadIdx.x / 32; }

}  // namespace ptx
