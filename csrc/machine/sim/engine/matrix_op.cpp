// The arithmetic of wgmma, as that of mma (ptx/mma.cpp): products are exact in float32, four partial sums
// over k, then one addition to the accumulator.
#include "engine/matrix_op.h"

#include <ptx/math.h>

#include <bit>
#include <cstring>

namespace rk::sim {
namespace {

using machine::Major;
using machine::MatrixType;

typedef float Row __attribute__((vector_size(32)));  // eight columns

constexpr uint32_t kMaxN = 256;

struct Operands {
  alignas(32) float a[16][16];  // [row][k]
  alignas(
      32) float b[16][kMaxN + 8];  // [k][column]; padded, since columns of a power of two share cache sets
};

template <MatrixType kType>
float value16(uint16_t bits) {
  if constexpr (kType == MatrixType::bf16) return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  return ptx::detail::f16_value(bits);
}

float value32(uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000u); }

// put(mn, k, value) for every element of the rows asked for.
template <MatrixType kType, class Put>
void unpack(const MatrixOp& op, uint64_t descriptor, Major major, uint32_t first, uint32_t count, Put&& put) {
  MatrixOperand(descriptor)
      .chunks(major, kType, first, count, [&](uint32_t mn, uint32_t k, uint32_t address) {
        if constexpr (kType == MatrixType::tf32) {
          uint32_t word[4];
          std::memcpy(word, op.window + address, 16);
          for (uint32_t i = 0; i < 4; ++i) put(mn, k + i, value32(word[i]));
        } else {
          uint16_t half[8];
          std::memcpy(half, op.window + address, 16);
          if (major == Major::k) {
            for (uint32_t i = 0; i < 8; ++i) put(mn, k + i, value16<kType>(half[i]));
          } else {
            for (uint32_t i = 0; i < 8; ++i) put(mn + i, k, value16<kType>(half[i]));
          }
        }
      });
}

template <MatrixType kType>
void unpack_fragment(const MatrixOp& op, Operands& operands) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t g = lane / 4, t = lane % 4;
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t word = op.a_registers[lane][i], row = g + 8 * (i % 2);
      if constexpr (kType == MatrixType::tf32) {
        operands.a[row][t + 4 * (i / 2)] = value32(word);
      } else {
        operands.a[row][2 * t + 8 * (i / 2)] = value16<kType>(static_cast<uint16_t>(word));
        operands.a[row][2 * t + 8 * (i / 2) + 1] = value16<kType>(static_cast<uint16_t>(word >> 16));
      }
    }
  }
}

// Eight columns of d.
template <uint32_t kDepth>
void multiply(const MatrixOp& op, const Operands& operands, uint32_t column) {
  alignas(32) float out[16][8];
  for (uint32_t row = 0; row < 16; ++row) {
    Row sum[4];
    for (uint32_t k = 0; k < kDepth; ++k) {
      Row b;
      std::memcpy(&b, &operands.b[k][column], sizeof b);
      const Row product = operands.a[row][k] * b;
      if (k < 4) {
        sum[k] = product;
      } else {
        sum[k % 4] += product;
      }
    }
    const Row total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    std::memcpy(out[row], &total, sizeof total);
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    float* const d = op.d[lane] + column / 2;
    const float* const upper = &out[lane / 4][lane % 4 * 2];
    const float* const lower = &out[lane / 4 + 8][lane % 4 * 2];
    if (op.accumulate) {
      d[0] += upper[0];
      d[1] += upper[1];
      d[2] += lower[0];
      d[3] += lower[1];
    } else {
      std::memcpy(d, upper, 8);
      std::memcpy(d + 2, lower, 8);
    }
  }
}

template <MatrixType kType>
void run(const MatrixOp& op) {
  Operands operands;
  if (op.from_registers) {
    unpack_fragment<kType>(op, operands);
  } else {
    const uint32_t first = 16 * op.warp;
    unpack<kType>(op, op.a, op.a_major, first, 16,
                  [&](uint32_t m, uint32_t k, float value) { operands.a[m - first][k] = value; });
  }
  unpack<kType>(op, op.b, op.b_major, 0, op.n,
                [&](uint32_t n, uint32_t k, float value) { operands.b[k][n] = value; });
  for (uint32_t column = 0; column < op.n; column += 8)
    multiply<machine::k_step(kType)>(op, operands, column);
}

}  // namespace

void run_matrix_op(const MatrixOp& op) {
  switch (op.type) {
    case MatrixType::bf16: return run<MatrixType::bf16>(op);
    case MatrixType::f16: return run<MatrixType::f16>(op);
    case MatrixType::tf32: return run<MatrixType::tf32>(op);
  }
}

}  // namespace rk::sim
