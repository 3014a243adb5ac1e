// The operands of wgrad as panels: one 128-byte row a pixel, 64 sixteen-bit or 32 float32 columns a panel.
//
// GradientRows brings filters of dy; WindowRows brings columns (r, s, c) of the implicit im2col matrix of x.
// A thread fills one chunk of columns, whose tap it works out once, for several pixels. kVector as in
// im2col.h.
#pragma once

#include <cstdint>

#include <ptx/cp_async.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "tile/conv_geometry.h"
#include "tile/format.h"
#include "tile/im2col.h"
#include "tile/warp_outer.h"

namespace rk::tile {

// How kThreads threads share kDepth rows of kColumns columns: a thread keeps its chunk of columns.
template <class Format, int kColumns, int kDepth, int kThreads>
struct RowShare {
  static constexpr int kChunks = kColumns / Format::kPerChunk;
  static constexpr int kRowsAtOnce = kThreads / kChunks;
  static constexpr int kPasses = kDepth / kRowsAtOnce;
  static_assert(kThreads % kChunks == 0 && kDepth % kRowsAtOnce == 0, "every pass fills whole rows");

  static RK_DEVICE int32_t column() {
    return static_cast<int32_t>(ptx::tid_x() % kChunks) * Format::kPerChunk;
  }
  static RK_DEVICE int32_t row(int pass) {
    return static_cast<int32_t>(ptx::tid_x() / kChunks) + pass * kRowsAtOnce;
  }
  static RK_DEVICE uint32_t address(uint32_t panels, int pass) {
    return panel_chunk<Format, kDepth>(panels, row(pass), column());
  }
};

template <class Format, int kColumns, int kDepth, int kThreads, bool kVector>
class GradientRows {
  using Element = typename Format::Element;
  using Share = RowShare<Format, kColumns, kDepth, kThreads>;

 public:
  RK_DEVICE GradientRows(const ConvGeometry& conv, const Element* dy, int32_t first_filter)
      : filters_(conv.columns), filter_(first_filter + Share::column()), dy_(dy + filter_) {}

  // Pixels first .. first + kDepth - 1; those from `end` on are zero.
  RK_DEVICE void load(uint32_t panels, int32_t first, int32_t end) const {
    RK_UNROLL
    for (int pass = 0; pass < Share::kPasses; ++pass) {
      const int32_t pixel = first + Share::row(pass);
      const int32_t count = pixel < end ? filters_ - filter_ : 0;
      const Element* from = dy_ + int64_t{pixel} * filters_;
      if constexpr (kVector) {
        ptx::cp_async<16>(Share::address(panels, pass), count > 0 ? from : dy_ - filter_, count > 0 ? 16 : 0);
      } else {
        Element elements[Format::kPerChunk];
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e)
          elements[e] = e < count ? ptx::ld_global_nc(from + e) : Element{0};
        ptx::st_shared(Share::address(panels, pass), assemble<Format>(elements));
      }
    }
  }

 private:
  int32_t filters_, filter_;
  const Element* dy_;
};

// Prologue (prologue.h): what happens to x's chunks on the way, kAhead stages after they were asked for.
template <class Format, class Prologue, int kColumns, int kDepth, int kThreads, int kAhead, bool kVector>
class WindowRows {
  using Element = typename Format::Element;
  using Share = RowShare<Format, kColumns, kDepth, kThreads>;

 public:
  static_assert(kVector || !Prologue::kTransforms, "what is transformed on load comes in whole chunks");
  static_assert(Prologue::kSources == 1, "wgrad has no room for a second source");
  static_assert(Share::kPasses * kAhead <= 32, "a bit for every chunk in flight");

  RK_DEVICE WindowRows(const ConvGeometry& conv, const Element* x, int32_t first_column)
      : conv_(conv), x_(x), cursor_(conv, first_column + Share::column()) {}

  // A thread's columns are the same in every stage.
  RK_DEVICE void prepare(Prologue& prologue) const {
    if (cursor_.inside(conv_)) prologue.begin(cursor_.channel);
  }

  // Transforms this thread's chunks of the oldest stage in flight, which has landed.
  RK_DEVICE void transform(uint32_t panels, const Prologue& prologue) const {
    const uint32_t exists = in_flight_ >> (Share::kPasses * (kAhead - 1));
    RK_UNROLL
    for (int pass = 0; pass < Share::kPasses; ++pass)
      prologue.transform(Share::address(panels, pass), 0, 0, (exists >> pass) % 2 != 0);
  }

  // In the place of load() where there is nothing left to load.
  RK_DEVICE void skip_load() {
    if constexpr (Prologue::kTransforms) in_flight_ <<= Share::kPasses;
  }

  RK_DEVICE void load(uint32_t panels, int32_t first, int32_t end) {
    uint32_t exists = 0;
    RK_UNROLL
    for (int pass = 0; pass < Share::kPasses; ++pass) {
      const int32_t pixel = first + Share::row(pass);
      uint32_t i = 0, j = 0;
      const uint32_t image = pixel < end ? conv_.position(pixel, i, j) : 0;
      const int32_t h = static_cast<int32_t>(i) * conv_.h.row_step + conv_.h.base;
      const int32_t w = static_cast<int32_t>(j) * conv_.w.row_step + conv_.w.base;
      const auto address = [&](const DepthCursor& cursor, bool& valid) {
        const int32_t source_h = h + cursor.h * conv_.h.tap_step;
        const int32_t source_w = w + cursor.w * conv_.w.tap_step;
        valid = pixel < end && cursor.inside(conv_) &&
                static_cast<uint32_t>(source_h) < static_cast<uint32_t>(conv_.h.source) &&
                static_cast<uint32_t>(source_w) < static_cast<uint32_t>(conv_.w.source);
        const int64_t row = int64_t{image} * conv_.h.source + source_h;
        return x_ + (row * conv_.w.source + source_w) * conv_.channels + cursor.channel;
      };
      if constexpr (kVector) {
        bool valid;
        const Element* from = address(cursor_, valid);
        ptx::cp_async<16>(Share::address(panels, pass), valid ? from : x_, valid ? 16 : 0);
        exists |= static_cast<uint32_t>(valid) << pass;
      } else {
        Element elements[Format::kPerChunk];
        DepthCursor cursor = cursor_;
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) {
          bool valid;
          const Element* from = address(cursor, valid);
          elements[e] = valid ? ptx::ld_global_nc(from) : Element{0};
          cursor.advance(conv_, 1);
        }
        ptx::st_shared(Share::address(panels, pass), assemble<Format>(elements));
      }
    }
    if constexpr (Prologue::kTransforms) in_flight_ = in_flight_ << Share::kPasses | exists;
  }

 private:
  const ConvGeometry& conv_;
  const Element* x_;
  DepthCursor cursor_;
  uint32_t in_flight_ = 0;  // a bit for each chunk that was not padding, kPasses a stage, the newest low
};

}  // namespace rk::tile
