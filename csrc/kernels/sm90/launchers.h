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

// A tile: GEMM rows x columns; the shapes are in conv_tiles.h. 192x64 is conv_narrow's, the others are
// conv_gemm's.
enum class ConvTile : uint8_t { t128x256, t256x128, t128x128, t256x64, t128x64, t192x64 };

constexpr int kDgradPhasesPerLaunch = 4;
constexpr int kNarrowWeightBoxes = 9;  // 64 x 64 of one tap: as many conv_narrow keeps in shared memory

// One launch of a convolution: problem and configuration. It may start while the kernel before it in the
// stream is still running (programmatic dependent launch), and waits for its end before it touches anything.
struct ConvGemm {
  ConvTile tile;
  DType dtype;
  int phases;  // of conv that exist; fprop has one
  tile::ConvGeometry conv[kDgradPhasesPerLaunch];
  const void* source;
  const Normalise* normalise;  // fprop: source is multiplied normalised; or null
  const BnGradient* gradient;  // dgrad: BatchNorm's gradient of source is multiplied; or null
  void* transformed;           // what is multiplied, written too; fprop: or null
  uint32_t* transformed_mask;  // fprop: bit = channel, set where transformed > 0; or null
  const void* weight;          // [k, r, s, c], in dgrad too
  int32_t taps;                // r s
  tile::Epilogue epilogue;
  Stream stream;
};

void launch_conv_fprop_bf16(const ConvGemm& gemm);
void launch_conv_fprop_f16(const ConvGemm& gemm);
void launch_conv_dgrad_bf16(const ConvGemm& gemm);
void launch_conv_dgrad_f16(const ConvGemm& gemm);

// A tile of conv_wgrad: filters x columns; p: two blocks of a cluster share the columns. The shapes are in
// wgrad_tiles.h.
enum class WgradTile : uint8_t {
  p128x384,
  p128x256,
  p128x192,
  t128x384,
  t128x256,
  t128x192,
  t256x128,
  t64x576,
  t64x256
};

// The columns of the widest tile of conv_wgrad that normalises on load: sums of wider ones take the
// registers.
constexpr int64_t kNormalisedWgradColumns = 256;

// One launch of conv_wgrad: the geometry of fprop, and how the pixels are cut.
struct WgradGemm {
  WgradTile tile;
  tile::ConvGeometry conv;
  const void* x;
  const Normalise* normalise;  // x is multiplied normalised, for one tap without padding; or null
  const void* dy;
  float* partials;           // [splits, k, r s c]
  int32_t pixels_per_split;  // a multiple of 64
  int32_t splits;
  Stream stream;
};

void launch_conv_wgrad_bf16(const WgradGemm& gemm);
void launch_conv_wgrad_f16(const WgradGemm& gemm);

// Padding 3; x's rows and y's pixels in whole 16-byte chunks, both aligned.
void launch_stem_fprop(const Stem& problem);

// The same, and whole units of rows of y.
constexpr int64_t kStemStatisticsRows = 16;
void launch_stem_statistics(const StemStatistics& problem);

// Ceilings: kernels that do one thing and time nothing (ceilings/).

// Copies of boxes of conv's source, of 64 channels and whole boxes of pixels, as a convolution makes them;
// with multicast of a source that is a matrix, in clusters of two. No more blocks, or clusters, than boxes.
constexpr int kFeedPixels = 128;  // of a box
struct Feed {
  tile::ConvGeometry conv;
  bool multicast;
  uint32_t blocks, copies;  // of each block
  const void* x;
  uint32_t* checksums;  // [blocks, 32]
  Stream stream;
};
void launch_feed(const Feed& feed);

void launch_matrix_rate(const MatrixCeiling& problem);

}  // namespace rk::sm90
