// What the host tells a convolution's epilogue; epilogue.h and statistics.h carry it out.
#pragma once

#include <cstdint>

#include "api.h"
#include "machine/words.h"

namespace rk::tile {

struct Statistics {
  enum class Kind : uint8_t { none, moments, gradient };
  Kind kind;
  float* partials;  // [row tiles, values_per_channel, columns]
  int64_t row_tiles;
  const void* bn_input;  // gradient: x, [pixels, columns]
  Affine bn;             // gradient: x's normalisation; its mean is what is subtracted from x
  bool bn_relu;          // gradient: a ReLU follows it, which lets through only where round(bn(x)) > 0
};

// (pivot, mean - pivot, M2), or (sum g, sum g (x - mean)).
constexpr int64_t values_per_channel(Statistics::Kind kind) {
  return kind == Statistics::Kind::moments ? kMomentsPerTile : kSumsPerTile;
}

struct Epilogue {
  Affine affine;
  const void* residual;  // [pixels, columns], or as residual_view says; or null
  ResidualView residual_view;
  const uint32_t* residual_mask;  // as mask, for the residual's own pixels and channels; or null
  const uint32_t* mask;           // [pixels, ceil(columns / 32)], bit = column; or null: everything passes
  void* y;                        // [pixels, columns]
  bool relu;
  bool vector;  // columns and the residual's channels are multiples of a chunk; residual, y and the
                // statistics' input are 16-byte aligned
  Statistics statistics;
};

}  // namespace rk::tile
