// conv_fprop in strict float32.
#include "kernels/sm80/conv_gemm.h"

namespace rk::sm80 {

void launch_conv_fprop_f32(const ConvGemm& gemm) { launch_conv_fprop<tile::Ffma>(gemm); }

}  // namespace rk::sm80
