// The tile shapes of conv_gemm on sm_90: GEMM rows (pixels) x columns (channels of the output) of a block.
//
// Two consumer warpgroups share a tile by rows, each in blocks of 64, the m of wgmma. What bounds the shapes
// is shared memory's 128 bytes a clock: an m64nNk16 reads 2 KB of the source and 32 N bytes of weights in N/2
// clocks, 128, 96 and 80 bytes a clock at N = 64, 128 and 256; two blocks of a warpgroup do not share the
// weights they read. And registers: 128 accumulators a thread is the most that leaves room for an epilogue.
#pragma once

#include <cstdint>

#include "tile/sm90/consumer.h"

namespace rk::sm90 {

constexpr uint32_t kProducer = tile::kConsumers;  // the warpgroup that comes after the consumers
constexpr uint32_t kConvThreads = (tile::kConsumers + 1) * 128;

constexpr uint32_t kMostSharedMemory = 227 * 1024;  // of a block

// Blocks of a cluster take tiles of the same columns, one below the other, and load each half of the weights
// for both.
struct Tile128x256 {
  static constexpr char kName[] = "128x256";
  static constexpr int kM = 128, kN = 256, kCluster = 2;
};

// For 128 filters.
struct Tile256x128 {
  static constexpr char kName[] = "256x128";
  static constexpr int kM = 256, kN = 128, kCluster = 2;
};

// Where larger tiles leave the last wave too empty.
struct Tile128x128 {
  static constexpr char kName[] = "128x128";
  static constexpr int kM = 128, kN = 128, kCluster = 2;
};

// For 64 filters.
struct Tile256x64 {
  static constexpr char kName[] = "256x64";
  static constexpr int kM = 256, kN = 64, kCluster = 2;
};

// For 64 filters where the source is transformed on load: a consumer holds the fragments of 64 rows alone.
struct Tile128x64 {
  static constexpr char kName[] = "128x64";
  static constexpr int kM = 128, kN = 64, kCluster = 2;
};

// Of conv_narrow: GEMM rows of a consumer's tile.
constexpr int kNarrowPixels = 192;

}  // namespace rk::sm90
