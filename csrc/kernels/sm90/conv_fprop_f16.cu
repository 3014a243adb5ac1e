// conv_fprop for sm_90 in float16.
#include "kernels/sm90/conv_gemm.h"

namespace rk::sm90 {

void launch_conv_fprop_f16(const ConvGemm& gemm) { launch_conv_fprop<tile::F16>(gemm); }

}  // namespace rk::sm90
