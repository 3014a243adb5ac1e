// conv_dgrad for sm_90 in bfloat16.
#include "kernels/sm90/conv_gemm.h"

namespace rk::sm90 {

void launch_conv_dgrad_bf16(const ConvGemm& gemm) { launch_conv_dgrad<tile::Bf16>(gemm); }

}  // namespace rk::sm90
