// What dispatch/ may call of the kernels for sm_90, each launcher defined beside its kernel. No device code.
//
// They copy by TMA and multiply by wgmma: bfloat16 and float16, channels in whole 16-byte chunks, aligned
// tensors, and extents that tensor maps can state. Everything else is for the portable kernels of
// kernels/sm80/.
#pragma once

#include "api.h"
#include "tile/conv_geometry.h"
#include "tile/epilogue_params.h"

namespace rk::sm90 {

// A tile of conv_gemm: GEMM rows x columns; the shapes are in conv_tiles.h.
enum class ConvTile : uint8_t { t128x256, t256x128, t128x128, t256x64 };

constexpr int kDgradPhasesPerLaunch = 4;

// One launch of conv_gemm: problem and configuration.
struct ConvGemm {
  ConvTile tile;
  DType dtype;
  int phases;  // of conv that exist; fprop has one
  tile::ConvGeometry conv[kDgradPhasesPerLaunch];
  const void* source;
  const void* weight;  // [k, r, s, c], in dgrad too
  int32_t taps;        // r s
  tile::Epilogue epilogue;
  Stream stream;
};

void launch_conv_fprop(const ConvGemm& gemm);
void launch_conv_dgrad(const ConvGemm& gemm);

// How many of the statistics' row tiles a launch has: those of all phases, each phase's rounded up to whole
// clusters.
int64_t conv_row_tiles(ConvTile tile, int64_t rows);

// Padding 3; x's rows and y's pixels in whole 16-byte chunks, both aligned.
void launch_stem_fprop(const Stem& problem);

// The same, and whole units of rows of y.
constexpr int64_t kStemStatisticsRows = 16;
void launch_stem_statistics(const StemStatistics& problem);

}  // namespace rk::sm90
