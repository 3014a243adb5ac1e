// The operands of fprop as tiles: implicit im2col rows of the activations, and rows of the weights.
//
// GEMM row m is the output pixel (n, p, q), GEMM column k the filter, GEMM depth runs over (r, s, c) with c fastest, so that
// a row of weights is contiguous and 16 bytes of a row of activations lie within one tap. A thread fills the same chunk
// (column of 16 bytes) of several rows; it walks the depth by itself, one row of 128 bytes a step.
#pragma once

#include <bit>
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

// Position in the GEMM depth: channel c of tap (r, s).
struct DepthCursor {
  int32_t r, s, c;

  RK_DEVICE DepthCursor(const ConvGeometry& conv, int32_t depth) {
    const int32_t tap = depth / conv.c;
    c = depth - tap * conv.c;
    r = tap / conv.s;
    s = tap - r * conv.s;
  }

  RK_DEVICE void advance(const ConvGeometry& conv, int32_t elements) {
    c += elements;
    while (c >= conv.c) {
      c -= conv.c;
      if (++s == conv.s) {
        s = 0;
        ++r;
      }
    }
  }

  RK_DEVICE bool inside(const ConvGeometry& conv) const { return r < conv.r; }
};

// kRows rows of both operands are filled by kThreads threads. kVector: C is a multiple of a chunk and the tensors are 16-byte
// aligned, so a chunk is one cp.async; otherwise it is gathered element by element through registers.
template <class Format, int kRowsA, int kRowsB, int kThreads, bool kVector>
class FpropOperands {
  using Element = typename Format::Element;
  static constexpr int kRowsAtOnce = kThreads / kChunksPerRow;
  static constexpr int kPassesA = kRowsA / kRowsAtOnce;
  static constexpr int kPassesB = kRowsB / kRowsAtOnce;
  static constexpr int kDepthPerRow = Format::kPerChunk * kChunksPerRow;
  static_assert(kRowsA % kRowsAtOnce == 0 && kRowsB % kRowsAtOnce == 0, "every pass fills whole rows");
  static constexpr int32_t kFarOutside = -(1 << 30);  // the row of a pixel that does not exist: never inside the image

 public:
  // first_m, first_k: the tile's first output pixel and first filter.
  RK_DEVICE FpropOperands(const ConvGeometry& conv, const Element* x, const Element* weight, int32_t first_m,
                          int32_t first_k)
      : conv_(conv), cursor_(conv, chunk() * Format::kPerChunk), depth_(chunk() * Format::kPerChunk) {
    RK_UNROLL
    for (int i = 0; i < kPassesA; ++i) {
      const int32_t m = first_m + row(i);
      if (m < conv.gemm_m()) {
        uint32_t pixel, q;
        const uint32_t n = conv.divide_pq.divide(m, pixel);
        const uint32_t p = conv.divide_q.divide(pixel, q);
        h_[i] = static_cast<int32_t>(p) * conv.stride_h - conv.pad_h;
        w_[i] = static_cast<int32_t>(q) * conv.stride_w - conv.pad_w;
        x_[i] = x + int64_t{n} * conv.h * conv.w * conv.c + (int64_t{h_[i]} * conv.w + w_[i]) * conv.c;
      } else {
        h_[i] = w_[i] = kFarOutside;
        x_[i] = x;
      }
    }
    filter_ = first_k + row(0);
    weight_ = weight + int64_t{filter_} * conv.gemm_k();
  }

  // Fills the next 128 bytes of depth of both tiles and steps on. The caller commits the group.
  RK_DEVICE void load(uint32_t tile_a, uint32_t tile_b) {
    if constexpr (kVector) {
      load_vector(tile_a, tile_b);
    } else {
      load_elements(tile_a, tile_b);
    }
    cursor_.advance(conv_, kDepthPerRow);
    depth_ += kDepthPerRow;
  }

 private:
  static RK_DEVICE int32_t chunk() { return static_cast<int32_t>(ptx::tid_x() % kChunksPerRow); }
  static RK_DEVICE int32_t row(int pass) {
    return static_cast<int32_t>(ptx::tid_x() / kChunksPerRow) + pass * kRowsAtOnce;
  }

  // Is tap (r, s) of this pass's pixel inside the image?
  RK_DEVICE bool inside(int pass, int32_t dh, int32_t dw) const {
    return static_cast<uint32_t>(h_[pass] + dh) < static_cast<uint32_t>(conv_.h) &&
           static_cast<uint32_t>(w_[pass] + dw) < static_cast<uint32_t>(conv_.w);
  }

  RK_DEVICE void load_vector(uint32_t tile_a, uint32_t tile_b) {
    const int32_t dh = cursor_.r * conv_.dilation_h;
    const int32_t dw = cursor_.s * conv_.dilation_w;
    const int32_t tap = (dh * conv_.w + dw) * conv_.c + cursor_.c;
    const bool in_depth = cursor_.inside(conv_);
    RK_UNROLL
    for (int i = 0; i < kPassesA; ++i) {
      const bool valid = in_depth && inside(i, dh, dw);
      ptx::cp_async<16>(tile_a + swizzled(row(i), chunk()), valid ? x_[i] + tap : x_[i], valid ? 16 : 0);
    }
    RK_UNROLL
    for (int i = 0; i < kPassesB; ++i) {
      const bool valid = in_depth && filter_ + i * kRowsAtOnce < conv_.k;
      const Element* source = weight_ + int64_t{i} * kRowsAtOnce * conv_.gemm_k() + depth_;
      ptx::cp_async<16>(tile_b + swizzled(row(i), chunk()), valid ? source : weight_, valid ? 16 : 0);
    }
  }

  RK_DEVICE void load_elements(uint32_t tile_a, uint32_t tile_b) {
    RK_UNROLL
    for (int i = 0; i < kPassesA; ++i) {
      Element elements[Format::kPerChunk];
      DepthCursor cursor = cursor_;
      RK_UNROLL
      for (int e = 0; e < Format::kPerChunk; ++e) {
        const int32_t dh = cursor.r * conv_.dilation_h;
        const int32_t dw = cursor.s * conv_.dilation_w;
        const bool valid = cursor.inside(conv_) && inside(i, dh, dw);
        elements[e] = valid ? ptx::ld_global_nc(x_[i] + (dh * conv_.w + dw) * conv_.c + cursor.c) : Element{0};
        cursor.advance(conv_, 1);
      }
      ptx::st_shared(tile_a + swizzled(row(i), chunk()), assemble<Format>(elements));
    }
    RK_NO_UNROLL
    for (int i = 0; i < kPassesB; ++i) {
      const int32_t filter = filter_ + i * kRowsAtOnce;
      const int32_t left = filter < conv_.k ? conv_.gemm_k() - depth_ : 0;
      const Element* source = weight_ + int64_t{i} * kRowsAtOnce * conv_.gemm_k() + depth_;
      ptx::st_shared(tile_b + swizzled(row(i), chunk()), tile::load_elements<Format>(source, left, 0));
    }
  }

  const ConvGeometry& conv_;
  DepthCursor cursor_;
  int32_t depth_;
  const Element* x_[kPassesA];  // where tap (0, 0), channel 0 of the row's pixel would lie, inside the image or not
  int32_t h_[kPassesA], w_[kPassesA];
  const Element* weight_;  // row filter_, the thread's first
  int32_t filter_;
};

}  // namespace rk::tile
