// conv_fprop for strict float32.
#include "kernels/sm80/conv_fprop.h"
#include "kernels/sm80/launchers.h"
#include "tile/warp_ffma.h"

namespace rk::sm80 {

void launch_conv_fprop_f32(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem) {
  using Math = tile::Ffma;
  if (config.vector_operands && config.tile == FpropTile::t128x64) {
    launch_conv_fprop<Math, FfmaTile128x64, true>(conv, problem, config.vector_epilogue);
  } else if (config.vector_operands && config.tile == FpropTile::t64x64) {
    launch_conv_fprop<Math, FfmaTile64x64, true>(conv, problem, config.vector_epilogue);
  } else if (config.tile == FpropTile::t64x64) {
    launch_conv_fprop<Math, FfmaTile64x64, false>(conv, problem, config.vector_epilogue);
  } else {
    refuse_conv_fprop(Math::kName, config, problem);
  }
}

}  // namespace rk::sm80
