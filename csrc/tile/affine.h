// The per-channel part of every epilogue: y = (x - mean) scale + bias in float32.
//
// BatchNorm in eval mode subtracts the mean before it multiplies, as torch.nn.BatchNorm2d does, so that a
// mean much larger than the deviation costs no digits; scale = weight / sqrt(var + eps) is folded here, in
// registers, and never by a kernel of its own. Without mean and var it is y = weight x + bias.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include <ptx/global.h>
#include <ptx/math.h>

#include "api.h"
#include "machine/words.h"

namespace rk::tile {

// Elements first .. first + kCount - 1 of a per-channel vector of `channels`; `neutral` where it or the
// vector does not exist. `first` is a multiple of kCount, so that whole groups of four are one load if the
// vector is aligned.
template <int kCount>
RK_DEVICE void load_vector(const float* vector, int first, int channels, float neutral,
                           float (&values)[kCount]) {
  if constexpr (kCount % 4 == 0) {
    if (vector != nullptr && first + kCount <= channels && reinterpret_cast<uintptr_t>(vector) % 16 == 0) {
      RK_UNROLL
      for (int i = 0; i < kCount; i += 4) {
        const auto words = ptx::ld_global_nc(reinterpret_cast<const Words4*>(vector + first + i));
        RK_UNROLL
        for (int e = 0; e < 4; ++e) values[i + e] = std::bit_cast<float>(words.word[e]);
      }
      return;
    }
  }
  RK_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const bool exists = vector != nullptr && first + i < channels;
    values[i] = exists ? ptx::ld_global_nc(vector + first + i) : neutral;
  }
}

// What an affine map is made of. Nobody waits for these loads before the map is made.
template <int kChannels>
struct AffineVectors {
  float mean[kChannels];
  float weight[kChannels];
  float bias[kChannels];
  float var[kChannels];

  // Channels first .. first + kChannels - 1 of `channels`; those past the end are left neutral.
  RK_DEVICE void load(const Affine& affine, int first, int channels) {
    load_vector(affine.mean, first, channels, 0.f, mean);
    load_vector(affine.weight, first, channels, 1.f, weight);
    load_vector(affine.bias, first, channels, 0.f, bias);
    load_vector(affine.var, first, channels, 1.f, var);
  }
};

template <int kChannels>
struct ChannelAffine {
  float mean[kChannels];
  float scale[kChannels];
  float bias[kChannels];

  RK_DEVICE void make(const Affine& affine, const AffineVectors<kChannels>& from) {
    RK_UNROLL
    for (int i = 0; i < kChannels; ++i) {
      mean[i] = from.mean[i];
      scale[i] = from.weight[i];
      bias[i] = from.bias[i];
    }
    if (affine.var == nullptr) return;
    RK_UNROLL
    for (int i = 0; i < kChannels; ++i) scale[i] *= 1.f / sqrtf(from.var[i] + affine.eps);
  }

  RK_DEVICE void load(const Affine& affine, int first, int channels) {
    AffineVectors<kChannels> vectors;
    vectors.load(affine, first, channels);
    make(affine, vectors);
  }

  RK_DEVICE float apply(float x, int i) const { return ptx::fma(x - mean[i], scale[i], bias[i]); }
};

// BatchNorm's gradient as bn_backward_finalize prepares it: dx = slope (h - offset - (x - mean) tilt).
template <int kChannels>
struct GradientCoefficients {
  float slope[kChannels], offset[kChannels], mean[kChannels], tilt[kChannels];

  // Channels first .. first + kChannels - 1 of [4, channels].
  RK_DEVICE void load(const float* coefficients, int first, int channels) {
    load_vector(coefficients, first, channels, 0.f, slope);
    load_vector(coefficients + channels, first, channels, 0.f, offset);
    load_vector(coefficients + 2 * channels, first, channels, 0.f, mean);
    load_vector(coefficients + 3 * channels, first, channels, 0.f, tilt);
  }

  // h becomes dx; `statistics`: mean and variance were the batch's, otherwise constants and x is not read.
  RK_DEVICE void apply(float (&h)[kChannels], const float (&x)[kChannels], bool statistics) const {
    RK_UNROLL
    for (int e = 0; e < kChannels; ++e) {
      if (statistics) h[e] = h[e] - offset[e] - (x[e] - mean[e]) * tilt[e];
      h[e] *= slope[e];
    }
  }
};

RK_DEVICE float relu(float x) { return ptx::max_nan(x, 0.f); }

}  // namespace rk::tile
