// The per-channel part of every epilogue: y = (x - mean) scale + bias in float32.
//
// BatchNorm in eval mode subtracts the mean before it multiplies, as torch.nn.BatchNorm2d does, so that a
// mean much larger than the deviation costs no digits; scale = weight / sqrt(var + eps) is folded here, in
// registers, and never by a kernel of its own. Without mean and var it is y = weight x + bias.
#pragma once

#include <cmath>

#include <ptx/global.h>
#include <ptx/math.h>

#include "api.h"

namespace rk::tile {

template <int kChannels>
struct ChannelAffine {
  float mean[kChannels];
  float scale[kChannels];
  float bias[kChannels];

  // Channels first .. first + kChannels - 1 of `channels`; those past the end are left neutral.
  RK_DEVICE void load(const Affine& affine, int first, int channels) {
    RK_UNROLL
    for (int i = 0; i < kChannels; ++i) {
      const int channel = first + i;
      const bool exists = channel < channels;
      mean[i] = exists && affine.mean != nullptr ? ptx::ld_global_nc(affine.mean + channel) : 0.f;
      scale[i] = exists && affine.weight != nullptr ? ptx::ld_global_nc(affine.weight + channel) : 1.f;
      bias[i] = exists && affine.bias != nullptr ? ptx::ld_global_nc(affine.bias + channel) : 0.f;
      if (exists && affine.var != nullptr) {
        scale[i] *= 1.f / sqrtf(ptx::ld_global_nc(affine.var + channel) + affine.eps);
      }
    }
  }

  RK_DEVICE float apply(float x, int i) const { return ptx::fma(x - mean[i], scale[i], bias[i]); }
};

RK_DEVICE float relu(float x) { return ptx::max_nan(x, 0.f); }

}  // namespace rk::tile
