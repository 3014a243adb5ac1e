// conv_dgrad in float32 rounded to TF32 on the tensor cores.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_dgrad_tf32(const ConvGemm& gemm) { launch_conv_dgrad<tile::MmaTf32>(gemm); }

}  // namespace rk::sm80
