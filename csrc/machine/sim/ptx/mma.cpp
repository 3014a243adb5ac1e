#include <ptx/math.h>
#include <ptx/mma.h>

#include <bit>

#include "checks/ordering.h"

namespace ptx {
namespace {

using rk::sim::Operation;
using rk::sim::Warp;

typedef float Row __attribute__((vector_size(32)));  // the eight columns of an accumulator's row

struct Bf16 {
  static constexpr int kK = 16;
  static float low(uint32_t word) { return std::bit_cast<float>(word << 16); }
  static float high(uint32_t word) { return std::bit_cast<float>(word & 0xffff0000u); }
};

struct F16 {
  static constexpr int kK = 16;
  static float low(uint32_t word) { return detail::f16_value(word & 0xffffu); }
  static float high(uint32_t word) { return low(word >> 16); }
};

struct Tf32 {
  static constexpr int kK = 8;
  static float value(uint32_t word) { return std::bit_cast<float>(word & 0xffffe000u); }
};

// Products of two 11-bit significands are exact in float32, so a multiplication and an addition round once,
// as the fused operation would. Four partial sums over k keep the number of roundings on a path to kK / 4
// + 3.
template <class Type>
void complete(Warp& warp, uint32_t) {
  constexpr int kK = Type::kK;
  if constexpr (rk::sim::kChecked) rk::sim::count_macs(16 * 8 * kK);
  alignas(32) float a[16][kK];
  alignas(32) float b[kK][8];
  alignas(32) float d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const uint32_t* word = warp.slot[lane].word;
    const int g = lane / 4, t = lane % 4;
    if constexpr (kK == 16) {
      for (int i = 0; i < 4; ++i) {
        float* pair = &a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)];
        pair[0] = Type::low(word[4 + i]);
        pair[1] = Type::high(word[4 + i]);
      }
      for (int i = 0; i < 2; ++i) {
        b[2 * t + 8 * i][g] = Type::low(word[8 + i]);
        b[2 * t + 8 * i + 1][g] = Type::high(word[8 + i]);
      }
    } else {
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = Type::value(word[4 + i]);
      for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = Type::value(word[8 + i]);
    }
    std::memcpy(&d[g][2 * t], &word[0], 8);
    std::memcpy(&d[g + 8][2 * t], &word[2], 8);
  }
  Row column[kK];
  std::memcpy(column, b, sizeof b);
  for (int row = 0; row < 16; ++row) {
    Row sum[4];
    for (int k = 0; k < 4; ++k) sum[k] = a[row][k] * column[k];
    for (int k = 4; k < kK; ++k) sum[k % 4] += a[row][k] * column[k];
    Row out;
    std::memcpy(&out, d[row], sizeof out);
    out += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    std::memcpy(d[row], &out, sizeof out);
  }
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* word = warp.slot[lane].word;
    std::memcpy(&word[0], &d[lane / 4][2 * (lane % 4)], 8);
    std::memcpy(&word[2], &d[lane / 4 + 8][2 * (lane % 4)], 8);
  }
}

}  // namespace

namespace detail {

extern const Operation kMmaBf16 = {"mma_m16n8k16_bf16", complete<Bf16>};
extern const Operation kMmaF16 = {"mma_m16n8k16_f16", complete<F16>};
extern const Operation kMmaTf32 = {"mma_m16n8k8_tf32", complete<Tf32>};

}  // namespace detail
}  // namespace ptx
