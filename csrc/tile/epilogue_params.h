// What the host tells a convolution's epilogue; epilogue.h and statistics.h carry it out.
#pragma once

#include <cstdint>

#include "api.h"
#include "machine/words.h"

namespace rk::tile {

struct Statistics {
  enum class Kind : uint8_t { none, moments, gradient };
  Kind kind;
  Words2* partials;      // [row tiles, columns]: (mean, M2) or (sum g, sum g (x - mean)), float32
  const void* bn_input;  // gradient: x, [pixels, columns]
  const float* mean;     // gradient: [columns]
  int64_t row_tiles;
};

struct Epilogue {
  Affine affine;
  const void* residual;  // [pixels, columns] or null
  const uint32_t* mask;  // [pixels, ceil(columns / 32)], bit = column; or null: everything passes
  void* y;               // [pixels, columns]
  bool relu;
  bool
      vector;  // columns are a multiple of a chunk; residual, y and the statistics' input are 16-byte aligned
  Statistics statistics;
};

}  // namespace rk::tile
