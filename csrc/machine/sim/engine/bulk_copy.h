// What a bulk copy moves: rows of bytes between a box of shared memory and global memory, as a tensor map
// describes them (PTX ISA 5.5) or simply in a row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "machine/tensor_map.h"

namespace rk::sim {

// The simulator's encoding of a machine::TensorMap.
struct MapFields {
  uint32_t mark;
  uint8_t im2col, rank, element;  // element: bytes
  machine::Swizzle swizzle;
  machine::Fill fill;
  int8_t lower[2], upper[2];  // im2col: W, H
  uint8_t element_stride[5];
  uint16_t box[5];  // im2col: box[0] channels, box[1] pixels
  const uint8_t* data;
  uint32_t last[5];    // extent - 1
  uint64_t stride[4];  // of dimensions 1 and up

  int64_t extent(uint32_t dimension) const { return int64_t{last[dimension]} + 1; }
};
static_assert(sizeof(MapFields) <= sizeof(machine::TensorMap), "the encoding is as large as the driver's");
inline constexpr uint32_t kMapMark = 0x544d4150;  // "TMAP"

// A row of the box: `valid` bytes from `global` stand `lead` bytes after its start; the rest is outside of
// the tensor.
struct BulkRow {
  uint32_t offset;  // of the row in the box
  uint32_t bytes;
  uint32_t lead, valid;
  uint8_t* global;  // null where nothing is valid
};

struct BulkCopy {
  bool tensor = false;
  bool on_chip = false;     // the other side is shared memory as well
  MapFields map = {};       // of a tensor
  uint8_t* flat = nullptr;  // else: where `bytes` lie in a row
  uint32_t bytes = 0;       // in shared memory
  int32_t at[5] = {};       // innermost first; im2col: C, W, H, N
  uint32_t offset[2] = {};  // im2col: W, H

  static BulkCopy row(const void* memory, uint32_t bytes) {
    BulkCopy copy;
    copy.flat = static_cast<uint8_t*>(const_cast<void*>(memory));
    copy.bytes = bytes;
    return copy;
  }

  template <class Visit>
  void rows(Visit&& visit) const {
    if (!tensor) {
      visit(BulkRow{0, bytes, 0, bytes, flat});
    } else if (map.im2col) {
      walk_pixels(visit);
    } else {
      walk_box(visit);
    }
  }

  machine::Swizzle swizzle() const { return tensor ? map.swizzle : machine::Swizzle::none; }

  // What stands in shared memory where the box lies outside the tensor, in 16-bit words.
  uint16_t fill() const { return tensor && map.fill == machine::Fill::nan ? machine::kOutOfBoundsNan : 0; }

 private:
  // The innermost dimension from `first` on, of the pixel or line that starts at `line`.
  template <class Visit>
  void visit_row(Visit&& visit, uint32_t number, bool inside, const uint8_t* line) const {
    const int64_t first = at[0], end = first + map.box[0];
    const int64_t from = std::clamp<int64_t>(0, first, end);
    const int64_t to = std::clamp<int64_t>(map.extent(0), from, end);
    const uint32_t row_bytes = uint32_t{map.box[0]} * map.element;
    BulkRow row = {number * row_bytes, row_bytes, 0, 0, nullptr};
    if (inside && to > from) {
      row.lead = static_cast<uint32_t>(from - first) * map.element;
      row.valid = static_cast<uint32_t>(to - from) * map.element;
      row.global = const_cast<uint8_t*>(line) + from * map.element;
    }
    visit(row);
  }

  template <class Visit>
  void walk_box(Visit&& visit) const {
    uint32_t count[5] = {1, 1, 1, 1, 1};
    for (uint32_t i = 1; i < map.rank; ++i) {
      count[i] = (map.box[i] + map.element_stride[i] - 1u) / map.element_stride[i];
    }
    uint32_t number = 0;
    uint32_t step[5] = {};
    for (;;) {
      bool inside = true;
      const uint8_t* line = map.data;
      for (uint32_t i = 1; i < map.rank; ++i) {
        const int64_t x = int64_t{at[i]} + int64_t{step[i]} * map.element_stride[i];
        inside &= x >= 0 && x < map.extent(i);
        line += x * static_cast<int64_t>(map.stride[i - 1]);
      }
      visit_row(visit, number++, inside, line);
      uint32_t i = 1;
      while (i < map.rank && ++step[i] == count[i]) step[i++] = 0;
      if (i >= map.rank) return;
    }
  }

  template <class Visit>
  void walk_pixels(Visit&& visit) const {
    const int64_t last_w = map.extent(1) - 1 + map.upper[0], last_h = map.extent(2) - 1 + map.upper[1];
    int64_t w = at[1], h = at[2], n = at[3];
    for (uint32_t pixel = 0; pixel < map.box[1]; ++pixel) {
      const int64_t x = w + offset[0], y = h + offset[1];
      const bool inside =
          x >= 0 && x < map.extent(1) && y >= 0 && y < map.extent(2) && n >= 0 && n < map.extent(3);
      const uint8_t* line = map.data + x * static_cast<int64_t>(map.stride[0]) +
                            y * static_cast<int64_t>(map.stride[1]) + n * static_cast<int64_t>(map.stride[2]);
      visit_row(visit, pixel, inside, line);
      w += map.element_stride[1];
      if (w <= last_w) continue;
      w = map.lower[0];
      h += map.element_stride[2];
      if (h <= last_h) continue;
      h = map.lower[1];
      ++n;
    }
  }
};

// Carries it out, to or from the window that begins at the host address `window` (of shared address 0).
void load_box(const BulkCopy& copy, uint8_t* window, uint32_t shared);
void store_box(const BulkCopy& copy, const uint8_t* window, uint32_t shared);

}  // namespace rk::sim
