// relu(BatchNorm(x)) in place, on rows that TMA has put into shared memory: one lane's eight channels of
// them.
//
// A lane keeps its channels, and so their coefficients, for as many rows as it likes. The bits are those that
// the elementwise kernel makes.
#pragma once

#include <cstdint>

#include <ptx/shared.h>

#include "machine/words.h"
#include "tile/affine.h"
#include "tile/format.h"
#include "tile/swizzle.h"

namespace rk::tile {

template <class Format>
class NormalisedRows {
 public:
  static constexpr int kAtOnce = 8;  // rows: the swizzle starts over behind them

  // params: Normalised's (tile/prologue.h). Channels channel .. channel + 7 of `channels`.
  template <class Params>
  RK_DEVICE NormalisedRows(const Params& params, int32_t channel, int32_t channels) : relu_(params.relu) {
    affine_.load(params.affine, channel, channels);
  }

  // The first kAtOnce of `rows` rows, or all of them; `first` is the address of the lane's chunk in a row
  // whose number is a multiple of kAtOnce. All are loaded before one is stored: latency is waited for once.
  RK_DEVICE void transform(uint32_t first, int32_t rows) const {
    const auto at = [=](int i) { return (first ^ (i * kChunkBytes)) + i * kRowBytes; };  // swizzled
    if (rows < kAtOnce) {
      RK_NO_UNROLL
      for (int i = 0; i < rows; ++i) ptx::st_shared(at(i), made(ptx::ld_shared<Words4>(at(i))));
      return;
    }
    Words4 words[kAtOnce];
    RK_UNROLL
    for (int i = 0; i < kAtOnce; ++i) words[i] = ptx::ld_shared<Words4>(at(i));
    RK_UNROLL
    for (int i = 0; i < kAtOnce; ++i) words[i] = made(words[i]);
    RK_UNROLL
    for (int i = 0; i < kAtOnce; ++i) ptx::st_shared(at(i), words[i]);
  }

 private:
  RK_DEVICE Words4 made(const Words4& words) const {
    float values[8];
    unpack<Format>(words, values);
    RK_UNROLL
    for (int e = 0; e < 8; ++e) {
      values[e] = affine_.apply(values[e], e);
      if (relu_) values[e] = relu(values[e]);
    }
    return pack<Format>(values);
  }

  ChannelAffine<8> affine_;
  bool relu_;
};

}  // namespace rk::tile
