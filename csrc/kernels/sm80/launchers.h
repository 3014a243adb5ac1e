// What dispatch/ may call: one launcher a kernel, each defined beside its kernel. No device code.
#pragma once

#include "api.h"
#include "tile/conv_geometry.h"
#include "tile/epilogue_params.h"

namespace rk::sm80 {

// A tile of conv_gemm: GEMM rows x columns; the shapes are in conv_tiles.h.
enum class ConvTile : uint8_t { t128x128, t128x64, t64x64 };

constexpr int kDgradPhasesPerLaunch = 4;

// One launch of conv_gemm: problem and configuration.
struct ConvGemm {
  ConvTile tile;
  bool vector_operands;  // 16-byte cp.async of source and weight; false: element by element, tile t64x64 only
  int phases;            // of conv that exist; fprop has one
  tile::ConvGeometry conv[kDgradPhasesPerLaunch];
  const void* source;
  const Normalise* normalise;  // fprop: source is multiplied normalised; or null
  const BnGradient* gradient;  // dgrad: BatchNorm's gradient of source is multiplied; or null
  void* transformed;           // what is multiplied, written too; fprop: or null
  uint32_t* transformed_mask;  // fprop: bit = channel, set where transformed > 0; or null
  const void* weight;
  tile::Epilogue epilogue;
  Stream stream;
};

void launch_conv_fprop_bf16(const ConvGemm& gemm);
void launch_conv_fprop_f16(const ConvGemm& gemm);
void launch_conv_fprop_tf32(const ConvGemm& gemm);
void launch_conv_fprop_f32(const ConvGemm& gemm);

void launch_conv_dgrad_bf16(const ConvGemm& gemm);
void launch_conv_dgrad_f16(const ConvGemm& gemm);
void launch_conv_dgrad_tf32(const ConvGemm& gemm);
void launch_conv_dgrad_f32(const ConvGemm& gemm);

// w' = w with filters and channels exchanged, as dgrad multiplies it.
void launch_krsc_to_crsk(const ConvShape& shape, DType dtype, const void* weight, void* transposed,
                         Stream stream);

// One launch of conv_wgrad: the geometry of fprop, and how the pixels are cut.
struct WgradGemm {
  bool large_tile;  // 128x128, else 64x64
  bool vector;      // 16-byte cp.async of x and dy; false: element by element, 64x64 only
  tile::ConvGeometry conv;
  const void* x;
  const Normalise* normalise;  // x is multiplied normalised; or null
  const void* dy;
  float* partials;           // [splits, k, r s c]
  int32_t pixels_per_split;  // a multiple of 64
  int32_t splits;
  Stream stream;
};

void launch_conv_wgrad_bf16(const WgradGemm& gemm);
void launch_conv_wgrad_f16(const WgradGemm& gemm);
void launch_conv_wgrad_tf32(const WgradGemm& gemm);
void launch_conv_wgrad_f32(const WgradGemm& gemm);

// dw = the splits' partials [splits, rows, padded] added in order, rounded to dtype: [rows, channels].
struct SplitReduction {
  const float* partials;
  int64_t splits, rows, padded, channels;
  DType dtype;
  void* dw;
  Stream stream;
};
void launch_reduce_splits(const SplitReduction& reduction);

void launch_pad_channels(DType dtype, int64_t rows, int64_t c, const void* x, void* y, Stream stream);

void launch_reduce_statistics(const StatisticsReduction& problem);

void launch_stem_fprop(const tile::ConvGeometry& conv, const Stem& problem);

// vector: channels are a multiple of a chunk and all tensors are 16-byte aligned.
void launch_bn_apply(const BnApply& problem, bool vector);
void launch_bn_backward_reduce(const BnBackwardReduce& problem, bool vector);
void launch_bn_backward_apply(const BnBackwardApply& problem, bool vector);
void launch_bn_finalize(const BnFinalize& problem);
void launch_bn_backward_finalize(const BnBackwardFinalize& problem);
void launch_max_pool_backward(const MaxPool& forward, const void* dy, void* dx, bool vector);
void launch_global_avg_pool_backward(const GlobalAvgPool& problem, bool vector);
void launch_max_pool(const MaxPool& problem, bool vector);
void launch_global_avg_pool(const GlobalAvgPool& problem, bool vector);

}  // namespace rk::sm80
