// conv_wgrad in float32 rounded to TF32 on the tensor cores.
#include "kernels/sm80/conv_wgrad.h"

namespace rk::sm80 {

void launch_conv_wgrad_tf32(const WgradGemm& gemm) { launch_conv_wgrad<tile::MmaTf32>(gemm); }

}  // namespace rk::sm80
