// conv_wgrad in float16 on the tensor cores.
#include "kernels/sm80/conv_wgrad.h"

namespace rk::sm80 {

void launch_conv_wgrad_f16(const WgradGemm& gemm) { launch_conv_wgrad<tile::MmaF16>(gemm); }

}  // namespace rk::sm80
