// How wgmma is told where an operand lies in shared memory (PTX ISA 9.7.15.5.1).
#pragma once

#include <cstdint>

#include "machine/tensor_map.h"

namespace rk::machine {

// Element types of both operands; accumulators are float32. A k step is 32 bytes.
enum class MatrixType : uint8_t { bf16, f16, tf32 };

constexpr uint32_t k_step(MatrixType type) { return type == MatrixType::tf32 ? 8 : 16; }

// Which dimension of an operand is contiguous in memory: k, or m (of a) and n (of b). TF32 takes k alone.
enum class Major : uint8_t { k, mn };

// The tile starts at `address`, a multiple of 16, and is swizzled as a tensor map with the same swizzle has
// written it. With a span of S bytes:
//
//   Major::k   rows of S bytes, one for each m or n; `stride` is the distance of groups of eight rows (8 S
//              where they are packed), `leading` is not used. A k step is 32 bytes further on. Without
//              swizzle rows are 16 bytes, and `leading` is the distance of the two halves of a k step.
//   Major::mn  rows of S bytes, one for each k, S / 2 of m or n in each; `stride` is the distance of groups
//   of
//              eight rows, `leading` that of the next S / 2 of m or n. A k step is two groups further on.
constexpr uint64_t matrix_descriptor(Swizzle swizzle, uint32_t address, uint32_t leading, uint32_t stride) {
  const uint64_t layout = swizzle == Swizzle::none ? 0 : 4 - static_cast<uint64_t>(swizzle);
  return uint64_t{(address & 0x3ffffu) >> 4} | uint64_t{(leading & 0x3ffffu) >> 4} << 16 |
         uint64_t{(stride & 0x3ffffu) >> 4} << 32 | layout << 62;
}

}  // namespace rk::machine
