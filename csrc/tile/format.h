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
  static constexpr Element kMinusInfinity = 0xff80;

  static RK_DEVICE void unpack_pair(uint32_t word, float& lo, float& hi) { ptx::unpack_bf16x2(word, lo, hi); }
  static RK_DEVICE uint32_t pack_pair(float lo, float hi) { return ptx::cvt_bf16x2(lo, hi); }
};

struct F16 {
  using Element = uint16_t;
  static constexpr DType kDType = DType::f16;
  static constexpr char kName[] = "f16";
  static constexpr int kPerChunk = 8;
  static constexpr Element kMinusInfinity = 0xfc00;

  static RK_DEVICE void unpack_pair(uint32_t word, float& lo, float& hi) { ptx::unpack_f16x2(word, lo, hi); }
  static RK_DEVICE uint32_t pack_pair(float lo, float hi) { return ptx::cvt_f16x2(lo, hi); }
};

struct F32 {
  using Element = uint32_t;
  static constexpr DType kDType = DType::f32;
  static constexpr char kName[] = "f32";
  static constexpr int kPerChunk = 4;
  static constexpr Element kMinusInfinity = 0xff800000u;
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

// The first `count` elements of a chunk in global memory, one by one; the rest are `fill`. For rows that no 16-byte access
// fits, because the channel count or the address is not a multiple of a chunk.
template <class Format>
RK_DEVICE Words4 load_elements(const typename Format::Element* first, int count, typename Format::Element fill) {
  Words4 chunk;
  RK_UNROLL
  for (int i = 0; i < 4; ++i) {
    if constexpr (Format::kPerChunk == 8) {
      const uint32_t lo = 2 * i < count ? ptx::ld_global_nc(first + 2 * i) : fill;
      const uint32_t hi = 2 * i + 1 < count ? ptx::ld_global_nc(first + 2 * i + 1) : fill;
      chunk.word[i] = lo | (hi << 16);
    } else {
      chunk.word[i] = i < count ? ptx::ld_global_nc(first + i) : fill;
    }
  }
  return chunk;
}

template <class Format>
RK_DEVICE void store_elements(typename Format::Element* first, int count, const Words4& chunk) {
  RK_UNROLL
  for (int i = 0; i < 4; ++i) {
    if constexpr (Format::kPerChunk == 8) {
      if (2 * i < count) ptx::st_global(first + 2 * i, static_cast<uint16_t>(chunk.word[i]));
      if (2 * i + 1 < count) ptx::st_global(first + 2 * i + 1, static_cast<uint16_t>(chunk.word[i] >> 16));
    } else {
      if (i < count) ptx::st_global(first + i, chunk.word[i]);
    }
  }
}

// A chunk of channels of one pixel: 16 bytes at once where kVector, else the `count` elements that exist.
template <class Format, bool kVector>
RK_DEVICE Words4 load_chunk(const typename Format::Element* first, int count, typename Format::Element fill = 0) {
  if constexpr (kVector) {
    return ptx::ld_global_nc(reinterpret_cast<const Words4*>(first));
  } else {
    return load_elements<Format>(first, count, fill);
  }
}

template <class Format, bool kVector>
RK_DEVICE void store_chunk(typename Format::Element* first, int count, const Words4& chunk) {
  if constexpr (kVector) {
    ptx::st_global(reinterpret_cast<Words4*>(first), chunk);
  } else {
    store_elements<Format>(first, count, chunk);
  }
}

}  // namespace rk::tile
