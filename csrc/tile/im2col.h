// The operands of fprop and dgrad as tiles: implicit im2col rows of the source, and rows of the weights.
//
// GEMM depth runs over (tap h, tap w, channel) with the channel fastest, so that 16 bytes of a row lie within
// one tap. A thread fills the same chunk (column of 16 bytes) of several rows of both tiles and walks the
// depth by itself, one row of 128 bytes a stage.
#pragma once

#include <cstdint>

#include <ptx/cp_async.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "machine/words.h"
#include "tile/conv_geometry.h"
#include "tile/format.h"
#include "tile/swizzle.h"

namespace rk::tile {

// Position in the GEMM depth: one channel of tap (h, w).
struct DepthCursor {
  int32_t h, w, channel;

  RK_DEVICE DepthCursor(const ConvGeometry& conv, int32_t depth) {
    const int32_t tap = depth / conv.channels;
    channel = depth - tap * conv.channels;
    h = conv.w.taps > 0 ? tap / conv.w.taps : 0;
    w = tap - h * conv.w.taps;
  }

  RK_DEVICE void advance(const ConvGeometry& conv, int32_t elements) {
    channel += elements;
    while (channel >= conv.channels) {
      channel -= conv.channels;
      if (++w == conv.w.taps) {
        w = 0;
        ++h;
      }
    }
  }

  RK_DEVICE bool inside(const ConvGeometry& conv) const { return h < conv.h.taps; }

  RK_DEVICE int32_t weight_offset(const ConvGeometry& conv) const {
    return conv.weight_first + h * conv.weight_tap_h + w * conv.weight_tap_w + channel;
  }
};

// kRowsA GEMM rows and kRowsB GEMM columns are filled by kThreads threads, kAhead stages before they are
// used. kVector: channels are a multiple of a chunk and the tensors are 16-byte aligned, so a chunk is one
// cp.async; otherwise it is gathered element by element through registers. Prologue (prologue.h) says what
// happens to the source's chunks on the way; it may read a second source of the same shape.
template <class Format, class Prologue, int kRowsA, int kRowsB, int kThreads, int kAhead, bool kVector>
class ConvOperands {
  using Element = typename Format::Element;
  static constexpr int kRowsAtOnce = kThreads / kChunksPerRow;
  static constexpr int kPassesA = kRowsA / kRowsAtOnce;
  static constexpr int kPassesB = kRowsB / kRowsAtOnce;
  static constexpr int kDepthPerRow = Format::kPerChunk * kChunksPerRow;
  static_assert(kRowsA % kRowsAtOnce == 0 && kRowsB % kRowsAtOnce == 0, "every pass fills whole rows");
  static_assert(kVector || !Prologue::kTransforms, "what is transformed on load comes in whole chunks");
  static_assert(kPassesA * kAhead <= 32, "a bit for every chunk in flight");
  static constexpr int32_t kFarOutside =
      -(1 << 30);  // coordinate of a pixel that does not exist: outside whatever the tap

 public:
  RK_DEVICE ConvOperands(const ConvGeometry& conv, const Element* source, const Element* second,
                         const Element* weight, int32_t first_row, int32_t first_column)
      : conv_(conv),
        cursor_(conv, chunk() * Format::kPerChunk),
        landed_(cursor_),
        first_row_(first_row),
        to_second_(second != nullptr ? reinterpret_cast<intptr_t>(second) - reinterpret_cast<intptr_t>(source)
                                     : kNoSecond) {
    RK_UNROLL
    for (int pass = 0; pass < kPassesA; ++pass) {
      const int32_t m = first_row + row(pass);
      if constexpr (Prologue::kPointwise) {
        rows_ |= static_cast<uint32_t>(m < conv.gemm_m()) << pass;
        source_[pass] = source + int64_t{m < conv.gemm_m() ? m : 0} * conv.channels;
      } else if (m < conv.gemm_m()) {
        uint32_t i, j;
        const uint32_t image = conv.position(m, i, j);
        h_[pass] = static_cast<int32_t>(i) * conv.h.row_step + conv.h.base;
        w_[pass] = static_cast<int32_t>(j) * conv.w.row_step + conv.w.base;
        source_[pass] = source + (int64_t{image} * conv.h.source + h_[pass]) * conv.w.source * conv.channels +
                        int64_t{w_[pass]} * conv.channels;
      } else {
        h_[pass] = w_[pass] = kFarOutside;
        source_[pass] = source;
      }
    }
    column_ = first_column + row(0);
    weight_ = weight + int64_t{column_} * conv.weight_column;
  }

  // Fills the next 128 bytes of depth of the tiles and steps on. The caller commits the group.
  RK_DEVICE void load(uint32_t tile_a, uint32_t tile_b, uint32_t tile_second) {
    if constexpr (kVector) {
      load_chunks(tile_a, tile_b, tile_second);
    } else {
      gather_chunks(tile_a, tile_b);
    }
    cursor_.advance(conv_, kDepthPerRow);
  }

  // What prologue needs to know before the oldest stage in flight has landed.
  RK_DEVICE void prepare(Prologue& prologue) const {
    if (landed_.inside(conv_)) prologue.begin(landed_.channel);
  }

  // Transforms this thread's chunks of the oldest stage in flight, which has landed.
  RK_DEVICE void transform(uint32_t tile_a, uint32_t tile_second, const Prologue& prologue) {
    const uint32_t exists = in_flight_ >> (kPassesA * (kAhead - 1));
    RK_UNROLL
    for (int pass = 0; pass < kPassesA; ++pass) {
      const uint32_t place = swizzled(row(pass), chunk());
      prologue.transform(tile_a + place, tile_second + place, first_row_ + row(pass),
                         (exists >> pass) % 2 != 0);
    }
    landed_.advance(conv_, kDepthPerRow);
  }

  // In the place of load() where there is nothing left to load.
  RK_DEVICE void skip_load() {
    if constexpr (Prologue::kTransforms) in_flight_ <<= kPassesA;
  }

 private:
  static RK_DEVICE int32_t chunk() { return static_cast<int32_t>(ptx::tid_x() % kChunksPerRow); }
  static RK_DEVICE int32_t row(int pass) {
    return static_cast<int32_t>(ptx::tid_x() / kChunksPerRow) + pass * kRowsAtOnce;
  }

  RK_DEVICE bool inside(int pass, int32_t dh, int32_t dw) const {
    if constexpr (Prologue::kPointwise) return (rows_ >> pass) % 2 != 0;
    return static_cast<uint32_t>(h_[pass] + dh) < static_cast<uint32_t>(conv_.h.source) &&
           static_cast<uint32_t>(w_[pass] + dw) < static_cast<uint32_t>(conv_.w.source);
  }

  RK_DEVICE void load_chunks(uint32_t tile_a, uint32_t tile_b, uint32_t tile_second) {
    const int32_t dh = cursor_.h * conv_.h.tap_step;
    const int32_t dw = cursor_.w * conv_.w.tap_step;
    const int32_t offset =
        (Prologue::kPointwise ? 0 : (dh * conv_.w.source + dw) * conv_.channels) + cursor_.channel;
    const bool in_depth = cursor_.inside(conv_);
    uint32_t exists = 0;
    RK_UNROLL
    for (int pass = 0; pass < kPassesA; ++pass) {
      const bool valid = in_depth && inside(pass, dh, dw);
      const Element* from = valid ? source_[pass] + offset : source_[pass];
      ptx::cp_async<16>(tile_a + swizzled(row(pass), chunk()), from, valid ? 16 : 0);
      if constexpr (Prologue::kSources == 2) {
        if (to_second_ != kNoSecond && valid) {
          const auto* beside =
              reinterpret_cast<const Element*>(reinterpret_cast<intptr_t>(from) + to_second_);
          ptx::cp_async<16>(tile_second + swizzled(row(pass), chunk()), beside, 16);
        }
      }
      exists |= static_cast<uint32_t>(valid) << pass;
    }
    if constexpr (Prologue::kTransforms) in_flight_ = in_flight_ << kPassesA | exists;
    const Element* weight = weight_ + cursor_.weight_offset(conv_);
    RK_UNROLL
    for (int pass = 0; pass < kPassesB; ++pass) {
      const bool valid = in_depth && column_ + pass * kRowsAtOnce < conv_.columns;
      const Element* from = valid ? weight + int64_t{pass} * kRowsAtOnce * conv_.weight_column : weight_;
      ptx::cp_async<16>(tile_b + swizzled(row(pass), chunk()), from, valid ? 16 : 0);
    }
  }

  // Element e of the chunk that starts at the cursor comes from pick(cursor of e), or is zero past the end of
  // the depth.
  template <class Pick>
  RK_DEVICE Words4 gather(const Pick& pick) const {
    Element elements[Format::kPerChunk];
    DepthCursor cursor = cursor_;
    RK_UNROLL
    for (int e = 0; e < Format::kPerChunk; ++e) {
      elements[e] = cursor.inside(conv_) ? pick(cursor) : Element{0};
      cursor.advance(conv_, 1);
    }
    return assemble<Format>(elements);
  }

  RK_DEVICE void gather_chunks(uint32_t tile_a, uint32_t tile_b) {
    RK_UNROLL
    for (int pass = 0; pass < kPassesA; ++pass) {
      const Words4 words = gather([&](const DepthCursor& cursor) {
        const int32_t dh = cursor.h * conv_.h.tap_step;
        const int32_t dw = cursor.w * conv_.w.tap_step;
        if (!inside(pass, dh, dw)) return Element{0};
        return ptx::ld_global_nc(source_[pass] + (dh * conv_.w.source + dw) * conv_.channels +
                                 cursor.channel);
      });
      ptx::st_shared(tile_a + swizzled(row(pass), chunk()), words);
    }
    RK_NO_UNROLL
    for (int pass = 0; pass < kPassesB; ++pass) {
      const bool exists = column_ + pass * kRowsAtOnce < conv_.columns;
      const Element* weight = weight_ + int64_t{pass} * kRowsAtOnce * conv_.weight_column;
      const Words4 words = gather([&](const DepthCursor& cursor) {
        return exists ? ptx::ld_global_nc(weight + cursor.weight_offset(conv_)) : Element{0};
      });
      ptx::st_shared(tile_b + swizzled(row(pass), chunk()), words);
    }
  }

  const ConvGeometry& conv_;
  DepthCursor cursor_, landed_;  // of the stage loaded next, and of that transformed next
  uint32_t in_flight_ = 0;  // a bit for each chunk that was not padding, kPassesA a stage, the newest low
  int32_t first_row_;
  // Bytes from an element of the source to its like in the second source: one register pair instead of two
  // pointers. It may be 0, when both are one tensor; whole chunks are never an odd number of bytes apart.
  static constexpr intptr_t kNoSecond = 1;
  intptr_t to_second_;
  const Element*
      source_[kPassesA];  // where tap (0, 0), channel 0 of the row would lie, inside the image or not
  uint32_t rows_ = 0;     // pointwise: a bit for each row that exists, and no coordinates
  static constexpr int kCoordinates = Prologue::kPointwise ? 1 : kPassesA;
  int32_t h_[kCoordinates], w_[kCoordinates];
  const Element* weight_;  // the thread's first column
  int32_t column_;
};

}  // namespace rk::tile
