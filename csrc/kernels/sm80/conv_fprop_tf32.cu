// conv_fprop for float32 rounded to TF32 on the tensor cores.
#include "kernels/sm80/conv_fprop.h"
#include "kernels/sm80/launchers.h"
#include "tile/warp_mma.h"

namespace rk::sm80 {

void launch_conv_fprop_tf32(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem) {
  using Math = tile::MmaTf32;
  if (config.vector_operands && config.tile == FpropTile::t128x128) {
    launch_conv_fprop<Math, Tile128x128, true>(conv, problem, config.vector_epilogue);
  } else if (config.vector_operands && config.tile == FpropTile::t128x64) {
    launch_conv_fprop<Math, Tile128x64, true>(conv, problem, config.vector_epilogue);
  } else if (config.vector_operands && config.tile == FpropTile::t64x64) {
    launch_conv_fprop<Math, Tile64x64, true>(conv, problem, config.vector_epilogue);
  } else if (config.tile == FpropTile::t64x64) {
    launch_conv_fprop<Math, Tile64x64, false>(conv, problem, config.vector_epilogue);
  } else {
    refuse_conv_fprop(Math::kName, config, problem);
  }
}

}  // namespace rk::sm80
