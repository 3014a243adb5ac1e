// conv_fprop in float16 on the tensor cores.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_fprop_f16(const ConvGemm& gemm) { launch_conv_fprop<tile::MmaF16>(gemm); }

}  // namespace rk::sm80
