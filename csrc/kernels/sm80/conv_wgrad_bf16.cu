// conv_wgrad in bfloat16 on the tensor cores.
#include "kernels/sm80/conv_wgrad.h"

namespace rk::sm80 {

void launch_conv_wgrad_bf16(const WgradGemm& gemm) { launch_conv_wgrad<tile::MmaBf16>(gemm); }

}  // namespace rk::sm80
