// What dispatch/ may call: one launcher a kernel, each defined beside its kernel. No device code.
#pragma once

#include "api.h"
#include "tile/conv_geometry.h"

namespace rk::sm80 {

// A tile of conv_fprop; the instantiations are in conv_fprop_*.cu, the shapes in conv_fprop_tiles.h.
enum class FpropTile : uint8_t { t128x128, t128x64, t64x64 };

struct FpropConfig {
  FpropTile tile;
  bool vector_operands;  // 16-byte cp.async of x and weight; false: element by element, tile t64x64 only
  bool vector_epilogue;  // 16-byte residual and output
};

void launch_conv_fprop_bf16(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem);
void launch_conv_fprop_f16(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem);
void launch_conv_fprop_tf32(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem);
void launch_conv_fprop_f32(const FpropConfig& config, const tile::ConvGeometry& conv, const ConvFprop& problem);

void launch_stem_fprop(const tile::ConvGeometry& conv, const Stem& problem);

// vector: channels are a multiple of a chunk and all tensors are 16-byte aligned.
void launch_bn_apply(const BnApply& problem, bool vector);
void launch_max_pool(const MaxPool& problem, bool vector);
void launch_global_avg_pool(const GlobalAvgPool& problem, bool vector);

}  // namespace rk::sm80
