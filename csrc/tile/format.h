// How elements lie in memory and become float32: 16-byte chunks of bfloat16, float16 or float32.
#pragma once

#include <bit>
#include <cstdint>

#include <ptx/global.h>
#include <ptx/math.h>

#include "api.h"
#include "machine/words.h"

namespace rk::tile {

struct Bf16 {
  using Element = uint16_t;
  static constexpr DType kDType = DType::bf16;
  static constexpr char kName[] = "bf16";
  static constexpr int kPerChunk = 8;

  static RK_DEVICE void unpack_pair(uint32_t word, float& lo, float& hi) { ptx::unpack_bf16x2(word, lo, hi); }
  static RK_DEVICE uint32_t pack_pair(float lo, float hi) { return ptx::cvt_bf16x2(lo, hi); }
};

struct F16 {
  using Element = uint16_t;
  static constexpr DType kDType = DType::f16;
  static constexpr char kName[] = "f16";
  static constexpr int kPerChunk = 8;

  static RK_DEVICE void unpack_pair(uint32_t word, float& lo, float& hi) { ptx::unpack_f16x2(word, lo, hi); }
  static RK_DEVICE uint32_t pack_pair(float lo, float hi) { return ptx::cvt_f16x2(lo, hi); }
};

struct F32 {
  using Element = uint32_t;
  static constexpr DType kDType = DType::f32;
  static constexpr char kName[] = "f32";
  static constexpr int kPerChunk = 4;
};

// A chunk's elements as floats.
template <class Format>
RK_DEVICE void unpack(const Words4& chunk, float (&values)[Format::kPerChunk]) {
  if constexpr (Format::kPerChunk == 8) {
    RK_UNROLL
    for (int i = 0; i < 4; ++i) Format::unpack_pair(chunk.word[i], values[2 * i], values[2 * i + 1]);
  } else {
    RK_UNROLL
    for (int i = 0; i < 4; ++i) values[i] = std::bit_cast<float>(chunk.word[i]);
  }
}

// Floats rounded to a chunk's elements.
template <class Format>
RK_DEVICE Words4 pack(const float (&values)[Format::kPerChunk]) {
  Words4 chunk;
  if constexpr (Format::kPerChunk == 8) {
    RK_UNROLL
    for (int i = 0; i < 4; ++i) chunk.word[i] = Format::pack_pair(values[2 * i], values[2 * i + 1]);
  } else {
    RK_UNROLL
    for (int i = 0; i < 4; ++i) chunk.word[i] = std::bit_cast<uint32_t>(values[i]);
  }
  return chunk;
}

template <class Format>
RK_DEVICE float to_float(typename Format::Element element) {
  if constexpr (Format::kPerChunk == 8) {
    float value, unused;
    Format::unpack_pair(element, value, unused);
    return value;
  } else {
    return std::bit_cast<float>(element);
  }
}

template <class Format>
RK_DEVICE typename Format::Element from_float(float value) {
  if constexpr (Format::kPerChunk == 8) {
    return static_cast<uint16_t>(Format::pack_pair(value, 0.f));
  } else {
    return std::bit_cast<uint32_t>(value);
  }
}

// Elements side by side.
template <class Format>
RK_DEVICE Words4 assemble(const typename Format::Element (&elements)[Format::kPerChunk]) {
  Words4 chunk;
  RK_UNROLL
  for (int i = 0; i < 4; ++i) {
    if constexpr (Format::kPerChunk == 8) {
      chunk.word[i] = elements[2 * i] | (uint32_t{elements[2 * i + 1]} << 16);
    } else {
      chunk.word[i] = elements[i];
    }
  }
  return chunk;
}

// One chunk of channels of one pixel is what a thread of every elementwise pass and epilogue works on.
// kVector: rows are made of whole, 16-byte aligned chunks; otherwise the `count` channels that exist are
// moved one by one, and the others are zero.
template <class Format, bool kVector>
RK_DEVICE void load_chunk(const typename Format::Element* first, int count,
                          float (&values)[Format::kPerChunk]) {
  if constexpr (kVector) {
    unpack<Format>(ptx::ld_global_nc(reinterpret_cast<const Words4*>(first)), values);
  } else {
    RK_UNROLL
    for (int i = 0; i < Format::kPerChunk; ++i) {
      values[i] = i < count ? to_float<Format>(ptx::ld_global_nc(first + i)) : 0.f;
    }
  }
}

// Rounds `values` to the format and stores them; `values` become what was stored.
template <class Format, bool kVector>
RK_DEVICE void store_chunk(typename Format::Element* first, int count, float (&values)[Format::kPerChunk]) {
  const Words4 words = pack<Format>(values);
  if constexpr (kVector) {
    ptx::st_global(reinterpret_cast<Words4*>(first), words);
  } else {
    RK_UNROLL
    for (int i = 0; i < Format::kPerChunk; ++i) {
      if (i < count) ptx::st_global(first + i, from_float<Format>(values[i]));
    }
  }
  unpack<Format>(words, values);
}

}  // namespace rk::tile
