// conv_dgrad in float16 on the tensor cores.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_dgrad_f16(const ConvGemm& gemm) { launch_conv_dgrad<tile::MmaF16>(gemm); }

}  // namespace rk::sm80
