// conv_fprop in bfloat16 on the tensor cores.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_fprop_bf16(const ConvGemm& gemm) { launch_conv_fprop<tile::MmaBf16>(gemm); }

}  // namespace rk::sm80
