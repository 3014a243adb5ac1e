#include <ptx/ldmatrix.h>

#include <cstring>

#include "checks/memory.h"

namespace ptx {
namespace {

using rk::sim::Operation;
using rk::sim::Warp;

template <uint32_t kCount, bool kTrans>
void complete(Warp& warp, uint32_t) {
  if constexpr (rk::sim::kChecked) rk::sim::check_matrices(warp, kCount);
  uint16_t row[8 * kCount][8];  // [matrix, row][element]
  for (uint32_t i = 0; i < 8 * kCount; ++i) {
    std::memcpy(row[i], rk::sim::running.shared + warp.slot[i].word[0], 16);
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < kCount; ++m) {
      const uint32_t group = lane / 4, pair = 2 * (lane % 4);
      uint32_t& word = warp.slot[lane].word[m];
      if constexpr (kTrans) {
        word = row[8 * m + pair][group] | static_cast<uint32_t>(row[8 * m + pair + 1][group]) << 16;
      } else {
        std::memcpy(&word, &row[8 * m + group][pair], 4);
      }
    }
  }
}

}  // namespace

namespace detail {

extern const Operation kLdmatrixX4 = {"ldmatrix_x4", complete<4, false>};
extern const Operation kLdmatrixX4Trans = {"ldmatrix_x4_trans", complete<4, true>};
extern const Operation kLdmatrixX2 = {"ldmatrix_x2", complete<2, false>};
extern const Operation kLdmatrixX2Trans = {"ldmatrix_x2_trans", complete<2, true>};

}  // namespace detail
}  // namespace ptx
