// The tile shapes of conv_fprop. A stage holds 128 bytes of depth of both operands; with three stages two
// blocks of the largest shape fit an SM of sm_90, and one an SM of sm_86 (99 KB).
#pragma once

#include <cstdint>

namespace rk::sm80 {

// Warps of 64x64 read 64 bytes of shared memory per 1024 multiply-adds, the least that fits in registers.
struct Tile128x128 {
  static constexpr char kName[] = "128x128";
  static constexpr int kTileM = 128, kTileN = 128;
  static constexpr int kWarpsM = 2, kWarpsN = 2;
  static constexpr int kStages = 3;
  static constexpr uint32_t kMinBlocks = 2;
};

// For 64 filters.
struct Tile128x64 {
  static constexpr char kName[] = "128x64";
  static constexpr int kTileM = 128, kTileN = 64;
  static constexpr int kWarpsM = 4, kWarpsN = 1;
  static constexpr int kStages = 3;
  static constexpr uint32_t kMinBlocks = 3;
};

// For problems too small to fill the machine with larger tiles.
struct Tile64x64 {
  static constexpr char kName[] = "64x64";
  static constexpr int kTileM = 64, kTileN = 64;
  static constexpr int kWarpsM = 2, kWarpsN = 2;
  static constexpr int kStages = 4;
  static constexpr uint32_t kMinBlocks = 3;
};

// FFMA: 64 totals and 64 sums of the stage a thread.
struct FfmaTile128x64 {
  static constexpr char kName[] = "128x64";
  static constexpr int kTileM = 128, kTileN = 64;
  static constexpr int kWarpsM = 4, kWarpsN = 1;
  static constexpr int kStages = 3;
  static constexpr uint32_t kMinBlocks = 2;
};

struct FfmaTile64x64 {
  static constexpr char kName[] = "64x64";
  static constexpr int kTileM = 64, kTileN = 64;
  static constexpr int kWarpsM = 2, kWarpsN = 2;
  static constexpr int kStages = 3;
  static constexpr uint32_t kMinBlocks = 3;
};

}  // namespace rk::sm80
