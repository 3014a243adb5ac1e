// Where a tile's bytes lie in shared memory. Every tile, whatever its element type, is made of rows of 128
// bytes: eight chunks of 16 bytes, chunk c of row r stored at chunk c ^ (r % 8). Eight rows read at one
// logical chunk (ldmatrix) and eight chunks of one row (cp.async, 16-byte loads) both touch all 32 banks
// once.
#pragma once

#include <cstdint>

namespace rk::tile {

constexpr uint32_t kRowBytes = 128;
constexpr uint32_t kChunkBytes = 16;
constexpr uint32_t kChunksPerRow = kRowBytes / kChunkBytes;

// Byte offset of a chunk in a tile that starts at a multiple of 1024 bytes.
constexpr uint32_t swizzled(uint32_t row, uint32_t chunk) {
  return row * kRowBytes + ((chunk ^ (row % kChunksPerRow)) * kChunkBytes);
}

}  // namespace rk::tile
