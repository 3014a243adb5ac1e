// A warp's share of a tile product, by what multiplies.
#pragma once

#include <type_traits>

#include "tile/instructions.h"
#include "tile/warp_ffma.h"
#include "tile/warp_mma.h"
#include "tile/warp_outer.h"

namespace rk::tile {

// acc[M x N] += A[M x depth] B[N x depth]^T: fprop and dgrad.
template <class Math, int kM, int kN>
using WarpProduct = std::conditional_t<std::is_same_v<Math, Ffma>, WarpFfma<kM, kN>, WarpMma<Math, kM, kN>>;

// acc[M x N] += A[depth x M]^T B[depth x N]: wgrad.
template <class Math, int kM, int kN, int kDepth>
using WarpOuterProduct = std::conditional_t<std::is_same_v<Math, Ffma>, WarpOuterFfma<kM, kN, kDepth>,
                                            WarpOuterMma<Math, kM, kN, kDepth>>;

}  // namespace rk::tile
