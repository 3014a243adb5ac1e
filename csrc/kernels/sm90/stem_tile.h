// The stem's convolution on sm_90 as a tile that kernels build on: a block's strips of 7x7/2 convolution with
// padding 3 over three channels, 64 filters by 8 columns of rows of outputs, in a warpgroup's accumulators.
//
// Filters are the rows of the product and pixels its columns. So the filters stay in registers, fragments of
// a for the whole depth, and shared memory is read for pixels alone: 64 bytes a clock, where 64 columns of
// filters would take 128. And each thread has columns of outputs of two filters.
//
// GEMM depth: one row of the window, seven pixels of three channels, is 21 consecutive elements of a row of
// x. The seven rows, padded to 24 elements each, are 168 -> 176 deep against 147 needed. A row of x serves
// several rows of outputs, so shared memory holds for each row of x, not for each output, the 24 elements
// under each of eight outputs, in three chunks of eight: a matrix without swizzle, whose groups of eight
// columns are 128 bytes apart and whose chunks lie wherever the descriptor says. What is no element of the
// window is zero there, and so is the chunk that is missing to 22, since NaN or infinity times a zero weight
// would be NaN.
//
// Roles: one thread copies strips of x, raw, by TMA, which also pads the image; three warps spread them into
// patches; two warpgroups multiply, and do with the outputs what the kernel is about, one while the other
// multiplies. Their registers fit the 168 that each of 384 threads has, so that none change hands. A block
// keeps its 64 filters and walks over units: a band of rows of an image, from left to right in strips of 8
// columns.
#pragma once

#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/bulk.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include "api.h"
#include "machine/matrix_operand.h"
#include "machine/tensor_map.h"
#include "machine/tensor_map_cache.h"
#include "machine/words.h"
#include "tile/divmod.h"
#include "tile/sm90/ring.h"

namespace rk::sm90 {

// How blocks share the work: units of whole bands, or of segments of them.
struct StemUnits {
  int32_t units;
  int32_t strips;                               // in a band
  int32_t strips_per_unit;                      // that a unit stores
  tile::Divisor divide_segments, divide_bands;  // units of a band, bands of an image

  StemUnits(int64_t images, int64_t bands, int64_t strips_in_band, int64_t stored)
      : units(static_cast<int32_t>(images * bands * segments(strips_in_band, stored))),
        strips(static_cast<int32_t>(strips_in_band)),
        strips_per_unit(static_cast<int32_t>(stored)),
        divide_segments(static_cast<uint32_t>(segments(strips_in_band, stored))),
        divide_bands(static_cast<uint32_t>(bands)) {}

  static constexpr int64_t segments(int64_t strips, int64_t stored) { return (strips + stored - 1) / stored; }
};

// Image, band and strips of a unit. The strip before `stored` is there for its last column.
struct StemUnit {
  int32_t n, band;
  int32_t first, stored, end;

  RK_DEVICE StemUnit(const StemUnits& all, uint32_t unit) {
    uint32_t segment, remainder;
    n = static_cast<int32_t>(all.divide_bands.divide(all.divide_segments.divide(unit, segment), remainder));
    band = static_cast<int32_t>(remainder);
    stored = static_cast<int32_t>(segment) * all.strips_per_unit;
    first = stored == 0 ? 0 : stored - 1;
    end = stored + all.strips_per_unit < all.strips ? stored + all.strips_per_unit : all.strips;
  }
};

// A band is two halves, one a warpgroup. kRowsP: rows of outputs of a half; kStepP: from the first of one
// half to the first of the next; kAbove: how many stand before the band's own.
template <class Format, int kRowsP, int kStepP, int kAbove>
struct StemTile {
  using Element = typename Format::Element;

  // Roles by warp: two warpgroups of consumers, then one warp that loads and three that spread.
  static constexpr uint32_t kGroups = 2;
  static constexpr uint32_t kConsumerWarps = 4 * kGroups;
  static constexpr uint32_t kSpreaderWarps = 3;
  static constexpr uint32_t kThreads = (kConsumerWarps + 1 + kSpreaderWarps) * 32;

  // The window.
  static constexpr int kWindow = 7, kChannels = 3, kStride = 2, kPadding = 3;
  static constexpr int kRowElements = kWindow * kChannels;
  static constexpr int kThirds = 3;  // chunks of eight elements that hold a row of the window
  static constexpr int kFirst = 1;   // element of the first one where the window starts
  static constexpr int kSteps = 11;  // of two chunks
  static_assert(kSteps * 2 >= kWindow * kThirds && kFirst + kRowElements <= kThirds * 8,
                "the steps cover all rows of the window");

  // The tile.
  static constexpr int kFilters = 64;
  static constexpr int kColumnsQ = 8;  // a row of a strip is a group of eight columns of the product
  static constexpr int kColumns = kRowsP * kColumnsQ;
  static constexpr int kBandP = kGroups * kStepP;
  using Accumulator = ptx::WgmmaAccumulator<kColumns>;
  using Weights = ptx::WgmmaFragment[kSteps];

  // Raw strips: rows of x that start at a multiple of 32 bytes, the first window's first element at an odd
  // place. Their pitch is 8 words modulo 32: four rows of eight windows, 3 words apart, lie in different
  // banks.
  static constexpr int kRows = (kStride * (kBandP - kStepP + kRowsP - 1) + kWindow + 7) / 8 * 8;
  static constexpr int kStripElements = kStride * kColumnsQ * kChannels;
  static constexpr int kLead = 16 - kPadding * kChannels;
  static constexpr uint32_t kRawRow = 80 * 2;
  static constexpr uint32_t kRawBytes = kRows * kRawRow;
  static_assert(kStripElements % 16 == 0 && kLead % 2 == kFirst, "windows start in the upper half of a word");
  static_assert(kLead + kStride * kChannels * (kColumnsQ - 1) + kRowElements <= 80,
                "the strip's last window");
  static_assert(kRawRow / 4 % 32 == 8, "four rows of windows lie in different banks");

  // Patches: third, parity of the row of x, row, window.
  static constexpr uint32_t kPatchRow = kColumnsQ * 16;
  static constexpr uint32_t kParityBytes = kRows / 2 * kPatchRow;
  static constexpr uint32_t kThirdBytes = 2 * kParityBytes;
  static constexpr uint32_t kPatchBytes = kThirds * kThirdBytes;

  static constexpr int kRawStages = 4, kPatchStages = 3;
  using RawRing = tile::Ring<kRawStages, kSpreaderWarps>;

  // A ring whose stages warps write, not copies.
  struct PatchRing : tile::Ring<kPatchStages, kConsumerWarps> {
    using Base = tile::Ring<kPatchStages, kConsumerWarps>;

    RK_DEVICE void init() const {
      RK_UNROLL
      for (uint32_t stage = 0; stage < kPatchStages; ++stage) {
        ptx::mbarrier_init(this->full(stage), kSpreaderWarps);
        ptx::mbarrier_init(this->empty(stage), kConsumerWarps);
      }
    }
    RK_DEVICE void await_empty(const typename Base::Position& at) const {
      ptx::mbarrier_wait(this->empty(at.stage), at.parity ^ 1);
    }
    // A warp that is together: what it wrote and fenced is there for wgmma.
    RK_DEVICE void publish(const typename Base::Position& at) const {
      if (ptx::lane_id() == 0) ptx::mbarrier_arrive(this->full(at.stage));
    }
  };

  // Shared memory, from `smem` on.
  static constexpr uint32_t kPatchesAt = 0;
  static constexpr uint32_t kRawAt = kPatchesAt + kPatchStages * kPatchBytes;
  static constexpr uint32_t kZerosAt = kRawAt + kRawStages * kRawBytes;
  static constexpr uint32_t kRawBarriersAt = kZerosAt + kRowsP * kPatchRow;
  static constexpr uint32_t kPatchBarriersAt = kRawBarriersAt + RawRing::kBarrierBytes;
  static constexpr uint32_t kBytes = kPatchBarriersAt + PatchRing::kBarrierBytes;
  static_assert(kRawAt % 128 == 0 && kRawBytes % 128 == 0, "where TMA writes");

  uint32_t smem;  // kBytes, from a multiple of 128 on

  RK_DEVICE RawRing raw() const { return {smem + kRawBarriersAt}; }
  RK_DEVICE PatchRing patches() const { return {{smem + kPatchBarriersAt}}; }

  // All threads, before anything else: one of them fetches the maps while another one sets up barriers.
  static RK_DEVICE void prefetch_maps(const machine::TensorMap& x, const machine::TensorMap& y) {
    if (ptx::tid_x() != kThreads - 1) return;
    ptx::prefetch_tensor_map(x);
    ptx::prefetch_tensor_map(y);
  }

  // All threads, before what uses the rings.
  RK_DEVICE void init() const {
    if (ptx::tid_x() == 0) {
      raw().init();
      patches().init();
      ptx::fence_mbarrier_init();
    }
    // For wgmma, too: the fences of those who spread come behind the barrier.
    if (ptx::tid_x() < kRowsP * kPatchRow / 16) ptx::st_shared(smem + kZerosAt + ptx::tid_x() * 16, Words4{});
    ptx::barrier_sync();
  }

  // visit(unit, strip) for all of the block's, in the order in which they go through the rings.
  template <class Visit>
  static RK_DEVICE void each_strip(const StemUnits& units, Visit&& visit) {
    RK_NO_UNROLL
    for (uint32_t i = ptx::ctaid_x(); i < static_cast<uint32_t>(units.units); i += ptx::nctaid_x()) {
      const StemUnit unit(units, i);
      RK_NO_UNROLL
      for (int32_t strip = unit.first; strip < unit.end; ++strip) visit(unit, strip);
    }
  }

  // The warpgroup's half of the unit's band, counted from the image's first.
  static RK_DEVICE int32_t half_band(const StemUnit& unit, uint32_t group) {
    return unit.band * static_cast<int32_t>(kGroups) + static_cast<int32_t>(group);
  }

  // ---- the producers; x: source_map

  RK_DEVICE void produce(const machine::TensorMap& x, const StemUnits& units) const {
    const uint32_t warp = ptx::warp_id() - kConsumerWarps;
    if (warp > 0) {
      spread(units, warp - 1);
    } else if (ptx::elect_one()) {
      load(x, units);
    }
  }

  RK_DEVICE void load(const machine::TensorMap& x, const StemUnits& units) const {
    typename RawRing::Position at;
    each_strip(units, [&](const StemUnit& unit, int32_t strip) {
      const uint32_t full = raw().acquire(at, kRawBytes);
      const int32_t row = kStride * (unit.band * kBandP - kAbove) - kPadding;
      const int32_t element = strip * kStripElements - kPadding * kChannels - kLead;
      ptx::tma_load(smem + kRawAt + at.stage * kRawBytes, x, full, {element, row, unit.n});
      at.advance();
    });
  }

  // Eight lanes take the windows of a row. The window's 21 elements straddle eleven words; the first word's
  // other half belongs to the pixel before.
  static RK_DEVICE void spread_row(uint32_t raw, uint32_t patch, uint32_t row) {
    constexpr int kWords = 1 + kRowElements / 2;
    const uint32_t window = ptx::lane_id() % 8;
    const uint32_t source = raw + row * kRawRow + (kLead - kFirst) * 2 + window * (kStride * kChannels * 2);
    Words4 chunk[kThirds];
    RK_UNROLL
    for (int i = 0; i < kThirds * 4; ++i) {
      chunk[i / 4].word[i % 4] = i < kWords ? ptx::ld_shared<uint32_t>(source + i * 4) : 0;
    }
    chunk[0].word[0] &= 0xffff0000u;
    const uint32_t target = patch + row % 2 * kParityBytes + row / 2 * kPatchRow + window * 16;
    RK_UNROLL
    for (int i = 0; i < kThirds; ++i) ptx::st_shared(target + i * kThirdBytes, chunk[i]);
  }

  RK_DEVICE void spread(const StemUnits& units, uint32_t warp) const {
    typename RawRing::Position from;
    typename PatchRing::Position to;
    each_strip(units, [&](const StemUnit&, int32_t) {
      patches().await_empty(to);
      raw().await(from);
      RK_NO_UNROLL
      for (uint32_t row = warp * 4 + ptx::lane_id() / 8; row < kRows; row += kSpreaderWarps * 4) {
        spread_row(smem + kRawAt + from.stage * kRawBytes, smem + kPatchesAt + to.stage * kPatchBytes, row);
      }
      ptx::fence_proxy_async();
      ptx::warp_sync();
      raw().release(from);
      patches().publish(to);
      from.advance();
      to.advance();
    });
  }

  // ---- the consumers

  // Which chunk of the window is half of a step: the first two thirds of each row, then the last thirds of
  // rows 0 and 2, 4 and 6, 1 and 3, 5 and a row 7 of zeros.
  struct Chunk {
    int row, third;
  };
  static constexpr Chunk chunk(int step, int half) {
    if (step < kWindow) return {step, half};
    const int pair = step - kWindow;
    return {(pair < 2 ? 4 * pair : 4 * pair - 7) + 2 * half, kThirds - 1};
  }

  // Bytes from the patch's start to this chunk, for the first row of outputs.
  static constexpr uint32_t chunk_offset(Chunk c) {
    return c.third * kThirdBytes + c.row % 2 * kParityBytes + c.row / 2 * kPatchRow;
  }

  // A thread's first filter; the other one is 8 further on.
  static RK_DEVICE int32_t first_filter() {
    return static_cast<int32_t>(ptx::ctaid_y() * kFilters + ptx::warp_id() % 4 * 16 + ptx::lane_id() / 4);
  }

  // A thread's part of its filters [k, 7, 7, 3], as fragments of a.
  static RK_DEVICE void load_weights(const Element* weight, int32_t k, Weights& weights) {
    const int32_t pair = static_cast<int32_t>(ptx::lane_id() % 4) * 2;
    RK_UNROLL
    for (int f = 0; f < 2; ++f) {
      const int32_t filter = first_filter() + 8 * f;
      const Element* taps = weight + int64_t{filter} * kWindow * kRowElements + pair;
      RK_UNROLL
      for (int i = 0; i < kSteps * 2; ++i) {
        const Chunk c = chunk(i / 2, i % 2);
        const int32_t at = c.third * 8 - kFirst;  // in the row of the window, of the chunk's first element
        const auto load = [&](int32_t e) -> uint32_t {
          const bool exists =
              filter < k && c.row < kWindow && at + pair + e >= 0 && at + pair + e < kRowElements;
          return exists ? ptx::ld_global_nc(taps + (c.row * kRowElements + at + e)) : 0;
        };
        weights[i / 2].registers()[i % 2 * 2 + f] = load(0) | load(1) << 16;
      }
    }
  }

  // The next strip of a warpgroup.
  RK_DEVICE void multiply(typename PatchRing::Position& at, uint32_t group, Weights& weights,
                          Accumulator& d) const {
    constexpr auto kType = Format::kDType == DType::bf16 ? ptx::MatrixType::bf16 : ptx::MatrixType::f16;
    const uint32_t patch = smem + kPatchesAt + at.stage * kPatchBytes + group * (kStepP * kPatchRow);
    patches().await(at);
    ptx::wgmma_fence(d, weights);
    RK_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t first = patch + chunk_offset(chunk(step, 0));
      const uint32_t second =
          chunk(step, 1).row < kWindow ? patch + chunk_offset(chunk(step, 1)) : smem + kZerosAt;
      const uint64_t b = machine::matrix_descriptor(machine::Swizzle::none, first, second - first, kPatchRow);
      ptx::wgmma_rs<kType, ptx::Major::k>(d, weights[step], b, step != 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(d, weights);
    patches().release(at);
    at.advance();
  }

  // ---- what a warpgroup stores: panels of pixels of 64 filters, swizzled as output_map's boxes

  static constexpr uint32_t kPixelBytes = kFilters * 2;
  static_assert(kPixelBytes == machine::span_bytes(machine::Swizzle::span128), "a pixel fills the span");

  // The row that this lane names to stmatrix_x4_trans: matrices 2i and 2i + 1 are the warp's filters 0 to 7
  // and 8 to 15 of eight pixels, of which pixel(i, c) says where they lie in the panel.
  template <class Pixel>
  static RK_DEVICE uint32_t panel_row(uint32_t panel, Pixel&& pixel) {
    const uint32_t matrix = ptx::lane_id() / 8;
    const uint32_t chunk = ptx::warp_id() % 4 * 2 + matrix % 2;
    return machine::swizzled(machine::Swizzle::span128,
                             panel + pixel(matrix / 2, ptx::lane_id() % 8) * kPixelBytes + chunk * 16);
  }

  // Behind it the panel just written may be stored, and the warpgroup's other one, which the last store has
  // read, written.
  static RK_DEVICE void swap_panels(uint32_t group) {
    ptx::fence_proxy_async();
    if (stores()) ptx::bulk_wait_read<0>();
    if (group == 0) {
      ptx::barrier_sync<1>(128);
    } else {
      ptx::barrier_sync<2>(128);
    }
  }
  static RK_DEVICE bool stores() { return ptx::tid_x() % 128 == 0; }

  // ---- the host's part

  static constexpr auto kElementType =
      Format::kDType == DType::bf16 ? machine::ElementType::bf16 : machine::ElementType::f16;

  // x [n, h, w, 3], a row of an image in one dimension.
  static machine::TensorMap source_map(const ConvShape& shape, const void* x) {
    const auto row = static_cast<uint64_t>(shape.w * shape.c), rows = static_cast<uint64_t>(shape.h);
    return machine::encode_cached(machine::TiledTensor{.type = kElementType,
                                                       .rank = 3,
                                                       .data = x,
                                                       .extent = {row, rows, static_cast<uint64_t>(shape.n)},
                                                       .stride = {row * 2, row * rows * 2},
                                                       .box = {kRawRow / 2, kRows, 1},
                                                       .element_stride = {1, 1, 1},
                                                       .swizzle = machine::Swizzle::none});
  }

  // y [n, p, q, k], in panels.
  static machine::TensorMap output_map(const void* y, int64_t n, int64_t p, int64_t q, int64_t k,
                                       uint32_t panel_p, uint32_t panel_q) {
    const auto extent = [](int64_t size) { return static_cast<uint64_t>(size); };
    return machine::encode_cached(
        machine::TiledTensor{.type = kElementType,
                             .rank = 4,
                             .data = y,
                             .extent = {extent(k), extent(q), extent(p), extent(n)},
                             .stride = {extent(k * 2), extent(q * k * 2), extent(p * q * k * 2)},
                             .box = {kFilters, panel_q, panel_p, 1},
                             .element_stride = {1, 1, 1, 1},
                             .swizzle = machine::Swizzle::span128});
  }
};

}  // namespace rk::sm90
