// conv_wgrad in bfloat16 by TMA and wgmma.
#include "kernels/sm90/conv_wgrad.h"

namespace rk::sm90 {

void launch_conv_wgrad_bf16(const WgradGemm& gemm) { launch_conv_wgrad<tile::Bf16>(gemm); }

}  // namespace rk::sm90
