#include "engine/bulk_copy.h"

namespace rk::sim {
namespace {

constexpr uint32_t kChunk = 16;  // bytes that a swizzle keeps together

void set(uint8_t* to, uint16_t fill, uint32_t bytes) {
  if (fill == 0) {
    std::memset(to, 0, bytes);
  } else {
    for (uint32_t byte = 0; byte < bytes; byte += sizeof fill) std::memcpy(to + byte, &fill, sizeof fill);
  }
}

}  // namespace

void load_box(const BulkCopy& copy, uint8_t* window, uint32_t shared) {
  const uint16_t fill = copy.fill();
  copy.rows([&](const BulkRow& row) {
    const uint32_t start = shared + row.offset;
    if (copy.swizzle() == machine::Swizzle::none) {
      if (row.valid != row.bytes) set(window + start, fill, row.bytes);
      if (row.valid != 0) std::memcpy(window + start + row.lead, row.global, row.valid);
      return;
    }
    for (uint32_t byte = 0; byte < row.bytes; byte += kChunk) {
      uint8_t* const to = window + machine::swizzled(copy.swizzle(), start + byte);
      const uint32_t from = std::max(byte, row.lead), end = std::min(byte + kChunk, row.lead + row.valid);
      if (from >= end) {
        set(to, fill, kChunk);
      } else if (end - from == kChunk) {
        std::memcpy(to, row.global + (from - row.lead), kChunk);
      } else {
        set(to, fill, kChunk);
        std::memcpy(to + (from - byte), row.global + (from - row.lead), end - from);
      }
    }
  });
}

void store_box(const BulkCopy& copy, const uint8_t* window, uint32_t shared) {
  copy.rows([&](const BulkRow& row) {
    const uint32_t start = shared + row.offset;
    for (uint32_t byte = row.lead; byte < row.lead + row.valid;) {
      const uint32_t chunk = byte / kChunk * kChunk;
      const uint32_t end = std::min(chunk + kChunk, row.lead + row.valid);
      const uint8_t* const from = window + machine::swizzled(copy.swizzle(), start + chunk) + (byte - chunk);
      std::memcpy(row.global + (byte - row.lead), from, end - byte);
      byte = end;
    }
  });
}

}  // namespace rk::sim
