// Descriptions of tensors in global memory from which the tensor memory access unit (TMA) copies boxes, and
// their opaque encodings (PTX ISA 5.5; CUDA driver API, "Tensor Map Object Management").
//
// Dimension 0 is the innermost: channels, for activations in channels_last memory. Host code encodes a map
// once for a tensor and hands it to the kernel inside its parameters.
#pragma once

#include <cstdint>

namespace rk::machine {

// 64-byte aligned, as copies demand; only the machine that encoded it can read it.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

enum class ElementType : uint8_t { u8, bf16, f16, f32 };

constexpr uint32_t element_bytes(ElementType type) {
  return type == ElementType::u8 ? 1 : type == ElementType::f32 ? 4 : 2;
}

// How the 16-byte chunks of a row of the box are permuted in shared memory: with a span of S bytes, bits 4
// and up of the address are xored with bits 7 and up, as many as number the chunks of a span.
enum class Swizzle : uint8_t { none, span32, span64, span128 };

constexpr uint32_t span_bytes(Swizzle swizzle) {
  return swizzle == Swizzle::none ? 16 : 16u << static_cast<uint32_t>(swizzle);
}
constexpr uint32_t swizzled(Swizzle swizzle, uint32_t address) {
  return address ^ ((address >> 7 & (span_bytes(swizzle) / 16 - 1)) << 4);
}

// What a load puts where the box lies outside the tensor: zeros, or in 16-bit floats a NaN that fma_oob
// (<ptx/fma_oob.h>) takes for a factor of zero. Which NaN is not documented; what others report is taken
// here, and the conformance kernels ask the hardware.
enum class Fill : uint8_t { zero, nan };
inline constexpr uint16_t kOutOfBoundsNan = 0x7ff7;

// Boxes of a tensor of up to five dimensions. What of a box lies outside the tensor reads as the fill and is
// not written. Strides are in bytes; that of dimension 0 is the element's size.
struct TiledTensor {
  ElementType type;
  uint32_t rank;               // 1 to 5
  const void* data;            // multiple of 16
  uint64_t extent[5];          // elements
  uint64_t stride[4];          // of dimensions 1 and up: multiples of 16
  uint32_t box[5];             // elements that a box spans, at most 256
  uint32_t element_stride[5];  // 1 to 8: every which of them is copied, ceil(box / element_stride) in all
  Swizzle swizzle;
  Fill fill = Fill::zero;

  bool operator==(const TiledTensor&) const = default;
};

// Columns of an im2col matrix of a 4-dimensional tensor {C, W, H, N}. Pixels are walked along W, then H, then
// N, inside the bounding box that `lower` and `upper` cut out of each image: from lower to extent - 1 +
// upper. A copy takes `pixels` of them, `channels` of each, from a start pixel on, every one displaced by the
// copy's offsets. Outside the tensor they read as the fill; a store skips them.
struct Im2colTensor {
  ElementType type;
  const void* data;
  uint64_t extent[4];          // C, W, H, N
  uint64_t stride[3];          // of W, H, N, in bytes
  int lower[2], upper[2];      // W, H: -128 to 127
  uint32_t channels;           // a pixel, at most 256
  uint32_t pixels;             // a copy, at most 1024
  uint32_t element_stride[2];  // W, H: 1 to 8, the step of the walk
  Swizzle swizzle;
  Fill fill = Fill::zero;

  bool operator==(const Im2colTensor&) const = default;
};

// Throw std::invalid_argument with the rule that is broken, the same on every machine; std::runtime_error
// where the driver refuses nevertheless.
TensorMap encode(const TiledTensor& tensor);
TensorMap encode(const Im2colTensor& tensor);

// The rules themselves: those of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col, and one of this package:
// the rows of a swizzled box fill the span.
void require_encodable(const TiledTensor& tensor);
void require_encodable(const Im2colTensor& tensor);

}  // namespace rk::machine
