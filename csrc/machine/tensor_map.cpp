// What the driver demands of a tensor map, and which demand was not met: it itself only says "invalid value".
#include "machine/tensor_map.h"

#include <stdexcept>
#include <string>

namespace rk::machine {
namespace {

void require(bool met, const std::string& what) {
  if (!met) throw std::invalid_argument("tensor map: " + what);
}

std::string number(uint64_t value) { return std::to_string(value); }

void require_memory(const void* data, const uint64_t* extent, const uint64_t* stride, uint32_t rank) {
  require(data != nullptr && reinterpret_cast<uintptr_t>(data) % 16 == 0,
          "the address must be a multiple of 16 bytes");
  for (uint32_t i = 0; i < rank; ++i) {
    require(extent[i] != 0 && extent[i] <= uint64_t{1} << 32,
            "extent " + number(i) + " is " + number(extent[i]) + "; it must be in 1..2^32");
  }
  for (uint32_t i = 0; i + 1 < rank; ++i) {
    require(stride[i] % 16 == 0 && stride[i] < uint64_t{1} << 40,
            "the stride of dimension " + number(i + 1) + " is " + number(stride[i]) +
                " bytes; it must be a multiple of 16 below 2^40");
  }
}

// `inner`: elements of a row of the box.
void require_row(uint32_t inner, ElementType type, Swizzle swizzle) {
  const uint32_t bytes = inner * element_bytes(type);
  require(bytes % 16 == 0, "a row of the box has " + number(bytes) + " bytes; it must be a multiple of 16");
  require(swizzle == Swizzle::none || bytes == span_bytes(swizzle),
          "a row of the box has " + number(bytes) + " bytes; with this swizzle it must have " +
              number(span_bytes(swizzle)));
}

void require_element_stride(uint32_t stride, uint32_t dimension) {
  require(stride >= 1 && stride <= 8, "the element stride of dimension " + number(dimension) + " is " +
                                          number(stride) + "; it must be in 1..8");
}

void require_fill(Fill fill, ElementType type) {
  require(fill == Fill::zero || type == ElementType::bf16 || type == ElementType::f16,
          "only bf16 and f16 are filled with NaN");
}

}  // namespace

void require_encodable(const TiledTensor& t) {
  require(t.rank >= 1 && t.rank <= 5, "the rank is " + number(t.rank) + "; it must be in 1..5");
  require_memory(t.data, t.extent, t.stride, t.rank);
  for (uint32_t i = 0; i < t.rank; ++i) {
    require(t.box[i] >= 1 && t.box[i] <= 256,
            "the box spans " + number(t.box[i]) + " in dimension " + number(i) + "; it must be in 1..256");
    require_element_stride(t.element_stride[i], i);
  }
  require(t.element_stride[0] == 1, "the element stride of dimension 0 is ignored; it must be 1");
  require_row(t.box[0], t.type, t.swizzle);
  require_fill(t.fill, t.type);
}

void require_encodable(const Im2colTensor& t) {
  require_memory(t.data, t.extent, t.stride, 4);
  static const char* const kAxis[] = {"W", "H"};
  for (uint32_t i = 0; i < 2; ++i) {
    for (const int corner : {t.lower[i], t.upper[i]}) {
      require(corner >= -128 && corner <= 127, std::string("a corner along ") + kAxis[i] + " is " +
                                                   std::to_string(corner) + "; it must be in -128..127");
    }
    require(t.lower[i] <= static_cast<int64_t>(t.extent[i + 1]) - 1 + t.upper[i],
            std::string("the bounding box is empty along ") + kAxis[i]);
    require_element_stride(t.element_stride[i], i + 1);
  }
  require(t.channels >= 1 && t.channels <= 256,
          number(t.channels) + " channels a pixel; it must be in 1..256");
  require(t.pixels >= 1 && t.pixels <= 1024, number(t.pixels) + " pixels a column; it must be in 1..1024");
  require_row(t.channels, t.type, t.swizzle);
  require_fill(t.fill, t.type);
}

}  // namespace rk::machine
