// What a convolution makes of its source between memory and the product.
//
//   AsIs         the source
//   Normalised     a = round(relu?(affine(x) + residual))                         fprop, wgrad
//   BnGradientOf   dy = round(slope (mask . g - offset - (x - mean) tilt))        dgrad
//
// A thread transforms the chunks that it has itself copied to shared memory, in place, after they have landed
// and before the block meets: so no other thread is waited for, zeros of the padding are left alone, whatever
// the product's instruction reads is ready, and the bits are those that an elementwise pass would have
// written. The blocks of the first column of tiles can write the result to memory as well.
//
// A prologue says what it is: kTransforms; kSources, with the second of the first's shape; kPointwise, only
// for convolutions in which row m of the GEMM is pixel m of the source.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/warp.h>

#include "api.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/epilogue.h"
#include "tile/format.h"

namespace rk::tile {

using PrologueSpans = std::array<machine::Span, 6>;

// Bits of a chunk, gathered over the lanes that hold the 32 channels of a word of the mask; lane % kLanes is
// the chunk's place in the word. Every lane of the warp calls this; the first of the kLanes gets the word.
template <int kPerChunk>
RK_DEVICE uint32_t gather_mask_word(uint32_t bits) {
  constexpr uint32_t kLanes = 32 / kPerChunk;
  uint32_t word = bits << (ptx::lane_id() % kLanes * kPerChunk);
  RK_UNROLL
  for (uint32_t step = 1; step < kLanes; step *= 2) word |= ptx::shfl_xor(word, step);
  return word;
}

template <class Format>
struct AsIs {
  static constexpr bool kTransforms = false;
  static constexpr bool kPointwise = false;
  static constexpr int kSources = 1;
  struct Params {};

  static PrologueSpans spans(const Params&, int64_t, int64_t) { return {}; }
  static const void* second_source(const Params&) { return nullptr; }
  RK_DEVICE AsIs(const Params&, int32_t, bool) {}
};

// The array of a class template has no size before the class is complete; hence these outside.
inline constexpr char kOfNorm[] = "of norm";
inline constexpr char kOfNormAndResidual[] = "of norm + residual";
inline constexpr char kOfBnGradient[] = "of bn gradient";

template <bool kResidual>
constexpr auto& normalised_name() {
  if constexpr (kResidual) {
    return kOfNormAndResidual;
  } else {
    return kOfNorm;
  }
}

template <class Format, bool kResidual>
class Normalised {
  using Element = typename Format::Element;
  static constexpr int kPerChunk = Format::kPerChunk;

 public:
  static constexpr bool kTransforms = true;
  static constexpr bool kPointwise = kResidual;
  static constexpr int kSources = kResidual ? 2 : 1;
  static constexpr auto& kName = normalised_name<kResidual>();

  struct Params {
    Affine affine;
    const Element* residual;
    Element* a;      // null, or [pixels, channels]
    uint32_t* mask;  // with a: [pixels, ceil(channels / 32)]
    bool relu;
  };

  static PrologueSpans spans(const Params& p, int64_t pixels, int64_t channels) {
    using machine::Role;
    const int64_t bytes = pixels * channels * static_cast<int64_t>(sizeof(Element));
    return {{{p.residual, bytes, Role::activation, "source_residual"},
             {p.a, bytes, Role::output, "a"},
             {p.mask, pixels * ((channels + 31) / 32) * 4, Role::output, "a_mask"},
             {p.affine.weight, channels * 4, Role::vector, "source_scale"},
             {p.affine.bias, channels * 4, Role::vector, "source_shift"},
             {p.affine.mean, channels * 4, Role::vector, "source_mean"}}};
  }
  static const void* second_source(const Params& p) { return p.residual; }

  RK_DEVICE Normalised(const Params& params, int32_t channels, bool writes)
      : params_(params), channels_(channels), writes_(writes && params.a != nullptr) {}

  // The coefficients of the chunk that starts at `channel`.
  RK_DEVICE void begin(int32_t channel) {
    channel_ = channel;
    affine_.load(params_.affine, channel, channels_);
  }

  // The chunk of one pixel at shared address `chunk`, its residual at `second`. Every lane calls this;
  // `exists` says which have a chunk.
  RK_DEVICE void transform(uint32_t chunk, uint32_t second, int64_t pixel, bool exists) const {
    uint32_t bits = 0;
    if (exists) {
      float values[kPerChunk];
      unpack<Format>(ptx::ld_shared<Words4>(chunk), values);
      RK_UNROLL
      for (int e = 0; e < kPerChunk; ++e) values[e] = affine_.apply(values[e], e);
      if constexpr (kResidual) {
        float skip[kPerChunk];
        unpack<Format>(ptx::ld_shared<Words4>(second), skip);
        RK_UNROLL
        for (int e = 0; e < kPerChunk; ++e) values[e] += skip[e];
      }
      if (params_.relu) {
        RK_UNROLL
        for (int e = 0; e < kPerChunk; ++e) values[e] = relu(values[e]);
      }
      const Words4 words = pack<Format>(values);
      ptx::st_shared(chunk, words);
      if (writes_) {
        ptx::st_global(reinterpret_cast<Words4*>(params_.a + pixel * channels_ + channel_), words);
        unpack<Format>(words, values);
        bits = passing(values);
      }
    }
    if (!writes_ || params_.mask == nullptr) return;
    const uint32_t word = gather_mask_word<kPerChunk>(bits);
    if (exists && channel_ % 32 == 0)
      ptx::st_global(params_.mask + pixel * ((channels_ + 31) / 32) + channel_ / 32, word);
  }

 private:
  const Params& params_;
  int32_t channels_, channel_ = 0;
  bool writes_;
  ChannelAffine<kPerChunk> affine_;
};

template <class Format>
class BnGradientOf {
  using Element = typename Format::Element;
  static constexpr int kPerChunk = Format::kPerChunk;

 public:
  static constexpr auto& kName = kOfBnGradient;
  static constexpr bool kTransforms = true;
  static constexpr bool kPointwise = true;
  static constexpr int kSources = 2;

  struct Params {
    BnGradient gradient;
    Element* dy;  // [pixels, channels], written too
  };

  static PrologueSpans spans(const Params& p, int64_t pixels, int64_t channels) {
    using machine::Role;
    const int64_t bytes = pixels * channels * static_cast<int64_t>(sizeof(Element));
    return {{{p.gradient.x, bytes, Role::activation, "gradient_x"},
             {p.gradient.mask, pixels * ((channels + 31) / 32) * 4, Role::activation, "gradient_mask"},
             {p.gradient.coefficients, channels * 16, Role::vector, "coefficients"},
             {p.dy, bytes, Role::output, "gradient_out"}}};
  }
  static const void* second_source(const Params& p) { return p.gradient.x; }

  RK_DEVICE BnGradientOf(const Params& params, int32_t channels, bool writes)
      : params_(params), channels_(channels), writes_(writes) {}

  RK_DEVICE void begin(int32_t channel) {
    channel_ = channel;
    coefficients_.load(params_.gradient.coefficients, channel, channels_);
  }

  RK_DEVICE void transform(uint32_t chunk, uint32_t second, int64_t pixel, bool exists) const {
    if (!exists) return;
    const BnGradient& gradient = params_.gradient;
    float g[kPerChunk], x[kPerChunk];
    unpack<Format>(ptx::ld_shared<Words4>(chunk), g);
    if (gradient.mask != nullptr) apply_mask(read_mask(gradient.mask, pixel, channels_, channel_), g);
    if (gradient.x != nullptr) unpack<Format>(ptx::ld_shared<Words4>(second), x);
    coefficients_.apply(g, x, gradient.x != nullptr);
    const Words4 words = pack<Format>(g);
    ptx::st_shared(chunk, words);
    if (writes_) ptx::st_global(reinterpret_cast<Words4*>(params_.dy + pixel * channels_ + channel_), words);
  }

 private:
  const Params& params_;
  int32_t channels_, channel_ = 0;
  bool writes_;
  GradientCoefficients<kPerChunk> coefficients_;
};

}  // namespace rk::tile
