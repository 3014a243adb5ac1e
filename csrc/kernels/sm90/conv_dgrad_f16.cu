// conv_dgrad for sm_90 in float16.
#include "kernels/sm90/conv_gemm.h"

namespace rk::sm90 {

void launch_conv_dgrad_f16(const ConvGemm& gemm) { launch_conv_dgrad<tile::F16>(gemm); }

}  // namespace rk::sm90
