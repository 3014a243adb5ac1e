// conv_dgrad in bfloat16 on the tensor cores.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_dgrad_bf16(const ConvGemm& gemm) { launch_conv_dgrad<tile::MmaBf16>(gemm); }

}  // namespace rk::sm80
