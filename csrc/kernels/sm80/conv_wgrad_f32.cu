// conv_wgrad in strict float32.
#include "kernels/sm80/conv_wgrad.h"

namespace rk::sm80 {

void launch_conv_wgrad_f32(const WgradGemm& gemm) { launch_conv_wgrad<tile::Ffma>(gemm); }

}  // namespace rk::sm80
