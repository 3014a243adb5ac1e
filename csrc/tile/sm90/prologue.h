// What a convolution on sm_90 makes of its source between shared memory and the product: tile/prologue.h,
// from fragments.
//
//   AsBoxes           the source, which wgmma reads where TMA has put it
//   NormalisedBoxes     a = round(relu?(affine(x) + residual))                         fprop
//   BnGradientBoxes     dy = round(slope (mask . g - offset - (x - mean) tilt))        dgrad
//
// A consumer reads its rows of a stage as fragments, transforms them in registers and multiplies from there.
// The per-channel vectors of a stage's 64 channels come with it. The blocks of the first column of tiles put
// the result back into the stage as well, from where TMA writes it to memory: the bits are those that an
// elementwise pass would have written.
//
// Rows past the last pixel are transformed too, into what nobody reads; channels come in whole boxes. Only
// for convolutions in which row m of the GEMM is pixel m of the source: so there is no padding to be left
// alone.
//
// A prologue says what it is: kTransforms; kSources, with the second of the first's shape; kVectors; and
// kReadsAhead, if it reads memory before the first stage has landed.
#pragma once

#include <cstdint>

#include <ptx/bulk.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/warp.h>

#include "api.h"
#include "tile/affine.h"
#include "tile/epilogue.h"
#include "tile/prologue.h"
#include "tile/sm90/fragments.h"
#include "tile/sm90/pixel_boxes.h"

namespace rk::tile {

constexpr uint32_t kVectorBytes = kBoxChannels * 4;  // of one vector of a stage

// Values of vector `vector` for a fragment from `chunk` on: those of e and e + 2 are the same.
RK_DEVICE void read_stage_vector(uint32_t vectors, uint32_t vector, uint32_t chunk, float (&values)[8]) {
  RK_UNROLL
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t channel = (chunk + half) * 8 + ptx::lane_id() % 4 * 2;
    const auto pair = ptx::ld_shared<Words2>(vectors + vector * kVectorBytes + channel * 4);
    RK_UNROLL
    for (uint32_t e = 0; e < 4; ++e) values[4 * half + e] = std::bit_cast<float>(pair.word[e % 2]);
  }
}

template <class Format>
struct AsBoxes {
  static constexpr bool kTransforms = false;
  static constexpr int kSources = 1;
  static constexpr int kVectors = 0;
  static constexpr bool kReadsAhead = false;
  using Params = typename AsIs<Format>::Params;

  static PrologueSpans spans(const Params&, int64_t, int64_t) { return {}; }
  static constexpr const void* second_source(const Params&) { return nullptr; }
  static constexpr void* transformed(const Params&) { return nullptr; }
};

template <class Format, bool kResidual>
class NormalisedBoxes {
 public:
  static constexpr bool kTransforms = true;
  static constexpr int kSources = kResidual ? 2 : 1;
  static constexpr int kVectors = 3;  // mean, scale, shift
  static constexpr bool kReadsAhead = false;
  static constexpr auto& kName = normalised_name<kResidual>();
  using Params = typename Normalised<Format, kResidual>::Params;

  static PrologueSpans spans(const Params& p, int64_t pixels, int64_t channels) {
    return Normalised<Format, kResidual>::spans(p, pixels, channels);
  }
  static constexpr const void* second_source(const Params& p) { return p.residual; }
  static constexpr void* transformed(const Params& p) { return p.a; }

  static RK_DEVICE const float* vector(const Params& p, int i, int32_t) {
    return i == 0 ? p.affine.mean : i == 1 ? p.affine.weight : p.affine.bias;
  }

  RK_DEVICE NormalisedBoxes(const Params& params, int32_t channels) : params_(params), channels_(channels) {}

  // Rows row and row + 8 of the source, and how many rows there are.
  RK_DEVICE void begin(int32_t row, int32_t rows) {
    row_ = row;
    rows_ = rows;
  }
  RK_DEVICE void prefetch(int32_t) {}

  // A fragment of chunks `chunk` and `chunk + 1`: x becomes a.
  RK_DEVICE void transform(uint32_t vectors, uint32_t chunk, const float (&second)[8], bool writes,
                           float (&values)[8], uint32_t (&word)[4]) {
    float mean[8], scale[8], shift[8];
    read_stage_vector(vectors, 0, chunk, mean);
    read_stage_vector(vectors, 1, chunk, scale);
    read_stage_vector(vectors, 2, chunk, shift);
    RK_UNROLL
    for (int e = 0; e < 8; ++e) {
      values[e] = ptx::fma(values[e] - mean[e], scale[e], shift[e]);
      if constexpr (kResidual) values[e] += second[e];
      if (params_.relu) values[e] = relu(values[e]);
    }
    pack_fragment<Format>(values, word);
    if (!writes || params_.mask == nullptr) return;
    if (chunk % 4 == 0) bits_[0] = bits_[1] = 0;
    unpack_fragment<Format>(word, values);
    const uint32_t pass = passing(values);
    RK_UNROLL
    for (uint32_t e = 0; e < 8; ++e) {
      bits_[e / 2 % 2] |= (pass >> e) % 2 << (fragment_bit(chunk % 4, e) % 32);
    }
  }

  // After the fragments of 32 channels, which end a word of the mask: all lanes.
  RK_DEVICE void write_mask(int32_t channel) const {
    if (params_.mask == nullptr) return;
    RK_UNROLL
    for (int r = 0; r < 2; ++r) {
      uint32_t word = bits_[r];
      word |= ptx::shfl_xor(word, 1);
      word |= ptx::shfl_xor(word, 2);
      const int32_t row = row_ + 8 * r;
      if (ptx::lane_id() % 4 == 0 && row < rows_)
        ptx::st_global(params_.mask + int64_t{row} * (channels_ / 32) + channel / 32, word);
    }
  }

 private:
  const Params& params_;
  int32_t channels_;
  int32_t row_ = 0, rows_ = 0;
  uint32_t bits_[2] = {};
};

template <class Format>
class BnGradientBoxes {
 public:
  static constexpr bool kTransforms = true;
  static constexpr int kSources = 2;
  static constexpr int kVectors = 4;         // slope, offset, mean, tilt
  static constexpr bool kReadsAhead = true;  // the mask
  static constexpr auto& kName = kOfBnGradient;
  using Params = typename BnGradientOf<Format>::Params;

  static PrologueSpans spans(const Params& p, int64_t pixels, int64_t channels) {
    return BnGradientOf<Format>::spans(p, pixels, channels);
  }
  static constexpr const void* second_source(const Params& p) { return p.gradient.x; }
  static constexpr void* transformed(const Params& p) { return p.dy; }

  static RK_DEVICE const float* vector(const Params& p, int i, int32_t channels) {
    return p.gradient.coefficients + i * channels;
  }

  RK_DEVICE BnGradientBoxes(const Params& params, int32_t channels) : params_(params), channels_(channels) {}

  RK_DEVICE void begin(int32_t row, int32_t rows) {
    RK_UNROLL
    for (int r = 0; r < 2; ++r) {
      pixel_[r] = row + 8 * r;
      exists_[r] = pixel_[r] < rows;
    }
  }
  // The mask's words of a stage, well before they are needed.
  RK_DEVICE void prefetch(int32_t channel) {
    mask_.load(params_.gradient.mask, pixel_, exists_, channels_, channel);
  }

  // g becomes dy.
  RK_DEVICE void transform(uint32_t vectors, uint32_t chunk, const float (&x)[8], bool, float (&values)[8],
                           uint32_t (&word)[4]) {
    float slope[8], offset[8], mean[8], tilt[8];
    read_stage_vector(vectors, 0, chunk, slope);
    read_stage_vector(vectors, 1, chunk, offset);
    read_stage_vector(vectors, 2, chunk, mean);
    read_stage_vector(vectors, 3, chunk, tilt);
    mask_.apply(chunk, values);
    RK_UNROLL
    for (int e = 0; e < 8; ++e) values[e] = (values[e] - offset[e] - (x[e] - mean[e]) * tilt[e]) * slope[e];
    pack_fragment<Format>(values, word);
  }
  RK_DEVICE void write_mask(int32_t) const {}

 private:
  const Params& params_;
  int32_t channels_;
  int64_t pixel_[2] = {};
  bool exists_[2] = {};
  MaskRows mask_;
};

}  // namespace rk::tile
