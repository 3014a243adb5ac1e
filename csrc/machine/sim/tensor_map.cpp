// Tensor maps of the simulator: the fields as they are, behind a mark.
#include "machine/tensor_map.h"

#include <cstring>

#include "engine/bulk_copy.h"

namespace rk::machine {
namespace {

TensorMap pack(const sim::MapFields& fields) {
  TensorMap map = {};
  std::memcpy(&map, &fields, sizeof fields);
  return map;
}

}  // namespace

TensorMap encode(const TiledTensor& t) {
  require_encodable(t);
  sim::MapFields fields = {};
  fields.mark = sim::kMapMark;
  fields.rank = static_cast<uint8_t>(t.rank);
  fields.element = static_cast<uint8_t>(element_bytes(t.type));
  fields.swizzle = t.swizzle;
  fields.fill = t.fill;
  fields.data = static_cast<const uint8_t*>(t.data);
  for (uint32_t i = 0; i < t.rank; ++i) {
    fields.last[i] = static_cast<uint32_t>(t.extent[i] - 1);
    fields.box[i] = static_cast<uint16_t>(t.box[i]);
    fields.element_stride[i] = static_cast<uint8_t>(t.element_stride[i]);
    if (i != 0) fields.stride[i - 1] = t.stride[i - 1];
  }
  return pack(fields);
}

TensorMap encode(const Im2colTensor& t) {
  require_encodable(t);
  sim::MapFields fields = {};
  fields.mark = sim::kMapMark;
  fields.im2col = 1;
  fields.rank = 4;
  fields.element = static_cast<uint8_t>(element_bytes(t.type));
  fields.swizzle = t.swizzle;
  fields.fill = t.fill;
  fields.data = static_cast<const uint8_t*>(t.data);
  fields.box[0] = static_cast<uint16_t>(t.channels);
  fields.box[1] = static_cast<uint16_t>(t.pixels);
  for (uint32_t i = 0; i < 4; ++i) fields.last[i] = static_cast<uint32_t>(t.extent[i] - 1);
  for (uint32_t i = 0; i < 3; ++i) fields.stride[i] = t.stride[i];
  for (uint32_t i = 0; i < 2; ++i) {
    fields.lower[i] = static_cast<int8_t>(t.lower[i]);
    fields.upper[i] = static_cast<int8_t>(t.upper[i]);
    fields.element_stride[i + 1] = static_cast<uint8_t>(t.element_stride[i]);
  }
  return pack(fields);
}

}  // namespace rk::machine
