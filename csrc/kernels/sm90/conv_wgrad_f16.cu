// conv_wgrad in float16 by TMA and wgmma.
#include "kernels/sm90/conv_wgrad.h"

namespace rk::sm90 {

void launch_conv_wgrad_f16(const WgradGemm& gemm) { launch_conv_wgrad<tile::F16>(gemm); }

}  // namespace rk::sm90
