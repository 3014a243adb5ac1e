// conv_fprop for bfloat16 on the tensor cores.
#include "kernels/sm80/conv_fprop.h"
#include "kernels/sm80/launchers.h"
#include "tile/warp_mma.h"

namespace rk::sm80 {

void launch_conv_fprop_bf16(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem) {
  using Math = tile::MmaBf16;
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
