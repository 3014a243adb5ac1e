// conv_dgrad in strict float32.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_dgrad_f32(const ConvGemm& gemm) { launch_conv_dgrad<tile::Ffma>(gemm); }

}  // namespace rk::sm80
