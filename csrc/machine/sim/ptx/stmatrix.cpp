#include <ptx/stmatrix.h>

#include <cstring>

#include "checks/memory.h"

namespace ptx {
namespace {

using rk::sim::Operation;
using rk::sim::Warp;

template <uint32_t kCount, bool kTrans>
void complete(Warp& warp, uint32_t) {
  if constexpr (rk::sim::kChecked) rk::sim::check_matrix_stores(warp, kCount);
  uint16_t row[8 * kCount][8];  // [matrix, row][element]
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < kCount; ++m) {
      const uint32_t group = lane / 4, pair = 2 * (lane % 4), word = warp.slot[lane].word[1 + m];
      if constexpr (kTrans) {
        row[8 * m + pair][group] = static_cast<uint16_t>(word);
        row[8 * m + pair + 1][group] = static_cast<uint16_t>(word >> 16);
      } else {
        std::memcpy(&row[8 * m + group][pair], &word, 4);
      }
    }
  }
  for (uint32_t i = 0; i < 8 * kCount; ++i) {
    std::memcpy(rk::sim::running.shared + warp.slot[i].word[0], row[i], 16);
  }
}

}  // namespace

namespace detail {

extern const Operation kStmatrixX4 = {"stmatrix_x4", complete<4, false>};
extern const Operation kStmatrixX4Trans = {"stmatrix_x4_trans", complete<4, true>};
extern const Operation kStmatrixX2 = {"stmatrix_x2", complete<2, false>};

}  // namespace detail
}  // namespace ptx
