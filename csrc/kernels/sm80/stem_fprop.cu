// The stem of a residual network in one kernel, for inference in bf16 and fp16 (He et al. 2015, Table 1:
// conv1 and the pool):
//
//   y = max_pool_3x3/2(round(relu(affine(conv_7x7/2(x, w)))))      x [n, h, w, 3], w [k, 7, 7, 3], y [n,
//   (p+1)/2, (q+1)/2, k]
//
// Three channels fill no 16-byte chunk, so the convolution does not go through implicit-GEMM tiles. A block
// keeps 64 filters in shared memory and walks over output tiles of 7x8 pooled pixels. Each needs 15x17 = 255
// convolution outputs, almost exactly 256 rows of an MMA, recomputing 14 % at the seams, and 35x39 input
// pixels.
//
// GEMM depth: in NHWC one row of the window, seven pixels of three channels, is 21 consecutive elements,
// which start at an even element because the stride is even. Padded to 24 they are three groups of eight, and
// a pair of A's fragment is one 32-bit load from the raw patch. Depth is 7 x 24 = 168 -> 176 against 147
// needed. Elements 21 to 23 belong to a neighbour pixel; they are cleared, since a NaN there times a zero
// weight would be NaN.
//
// Bytes: x once (seams from L2), the weights once a block, y once; the convolution's output, four times y,
// never exists.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
#include <ptx/shared.h>

#include "kernels/sm80/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/format.h"
#include "tile/instructions.h"
#include "tile/name.h"
#include "tile/swizzle.h"

namespace rk::sm80 {
namespace {

template <class Math>
struct StemFpropKernel {
  using Format = typename Math::Format;
  using Element = typename Format::Element;

  struct Params {
    tile::ConvGeometry conv;
    const Element* x;
    const Element* weight;
    Affine affine;
    Element* y;
    int32_t pooled_p, pooled_q;
    int32_t tiles;  // over n, rows and columns of tiles
    tile::Divisor divide_tiles_q, divide_tiles_p;
    bool vector;  // k is a multiple of 8 and y is 16-byte aligned
  };

  static constexpr auto kNameParts = tile::join_names("stem_fprop", Math::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 128;
  static constexpr uint32_t kMinBlocks = 2;

  // The window.
  static constexpr int kWindow = 7, kChannels = 3, kStride = 2;
  static constexpr int kRowDepth = kWindow * kChannels;  // elements of one row of the window
  static constexpr int kGroupsPerRow = 3;                // of eight elements
  static constexpr int kSteps = 11;                      // of sixteen elements
  static_assert(kSteps * 16 >= kWindow * kGroupsPerRow * 8, "the steps cover all rows of the window");
  static_assert(kStride % 2 == 0,
                "fragment pairs are 32-bit aligned only if a window starts at an even element");

  // The tile.
  static constexpr int kPooledP = 7, kPooledQ = 8;
  static constexpr int kConvP = 2 * kPooledP + 1, kConvQ = 2 * kPooledQ + 1;
  static constexpr int kConvPixels = kConvP * kConvQ;
  static constexpr int kWarpRows = 64;
  static constexpr int kFilters = 64;
  static_assert(kConvPixels <= static_cast<int>(kThreads / 32) * kWarpRows, "the warps' rows cover the tile");

  // Shared memory. The patch's pitch is 20 modulo 32: where eight consecutive pixels of a fragment wrap to
  // the next row, they still lie in different banks. Weights: 23 chunks a row, an odd number, keep ldmatrix
  // free of conflicts.
  static constexpr int kPatchRows = kStride * (kConvP - 1) + kWindow;
  static constexpr int kPatchElements = (kStride * (kConvQ - 1) + kWindow) * kChannels;
  static constexpr int kPatchPitch = 148;
  static constexpr uint32_t kWeightPitch = 23 * 16;
  static constexpr uint32_t kPanelPitch = kFilters * 2 + 16;
  static constexpr uint32_t kPatchAt = 0;
  static constexpr uint32_t kWeightsAt = kPatchAt + (kPatchRows * kPatchPitch * 2 + 15) / 16 * 16;
  static constexpr uint32_t kVectorsAt = kWeightsAt + kFilters * kWeightPitch;
  static constexpr uint32_t kPanelAt = kVectorsAt + 3 * kFilters * 4;
  static constexpr uint32_t kSmem = kPanelAt + kThreads / 32 * kWarpRows * kPanelPitch;
  static_assert(kPatchPitch % 32 == 20 &&
                    kPatchPitch >= kStride * kChannels * (kConvQ - 1) + kGroupsPerRow * 8,
                "fragments of the last pixel stay within their row");
  static_assert(kWeightPitch >= kSteps * 32 && kWeightPitch / 16 % 2 == 1,
                "an odd number of chunks holds the depth");

  static std::array<machine::Span, 7> spans(const Params& p) {
    using machine::Role;
    const int64_t vector_bytes = int64_t{p.conv.columns} * 4;
    return {{{p.x, p.conv.source_elements() * 2, Role::activation, "x"},
             {p.weight, p.conv.weight_elements() * 2, Role::weight, "weight"},
             {p.y, int64_t{p.conv.n} * p.pooled_p * p.pooled_q * p.conv.columns * 2, Role::output, "y"},
             {p.affine.weight, vector_bytes, Role::vector, "scale"},
             {p.affine.bias, vector_bytes, Role::vector, "shift"},
             {p.affine.mean, vector_bytes, Role::vector, "mean"},
             {p.affine.var, vector_bytes, Role::vector, "var"}}};
  }

  // Image, and first pooled row and column, of a tile.
  struct TileOrigin {
    int32_t n, p, q;

    RK_DEVICE TileOrigin(const Params& params, uint32_t tile) {
      uint32_t row, column;
      n = static_cast<int32_t>(params.divide_tiles_p.divide(params.divide_tiles_q.divide(tile, column), row));
      p = static_cast<int32_t>(row) * kPooledP;
      q = static_cast<int32_t>(column) * kPooledQ;
    }
    // The first convolution output of the tile: the pool's window starts one pixel before.
    RK_DEVICE int32_t conv_p() const { return 2 * p - 1; }
    RK_DEVICE int32_t conv_q() const { return 2 * q - 1; }
  };

  // Filters first_k .. first_k + 63 as rows of 7 x 24 elements, zero where there is nothing.
  static RK_DEVICE void load_weights(const Params& p, uint32_t smem, int32_t first_k) {
    constexpr int kPairs = kSteps * 8;
    RK_NO_UNROLL
    for (uint32_t i = ptx::tid_x(); i < kFilters * kPairs; i += kThreads) {
      const auto filter = static_cast<int32_t>(i / kPairs);
      const auto element = static_cast<int32_t>(i % kPairs) * 2;
      const int32_t r = element / (kGroupsPerRow * 8);
      const int32_t j = element % (kGroupsPerRow * 8);
      const bool exists = first_k + filter < p.conv.columns && r < kWindow;
      const Element* row = p.weight + ((first_k + filter) * kWindow + r) * kRowDepth;
      const uint32_t lo = exists && j < kRowDepth ? ptx::ld_global_nc(row + j) : 0;
      const uint32_t hi = exists && j + 1 < kRowDepth ? ptx::ld_global_nc(row + j + 1) : 0;
      ptx::st_shared(smem + kWeightsAt + filter * kWeightPitch + element * 2, lo | (hi << 16));
    }
  }

  // mean, scale and bias of the block's filters, a row of 64 floats each.
  static RK_DEVICE void load_vectors(const Params& p, uint32_t smem, int32_t first_k) {
    if (ptx::tid_x() >= kFilters) return;
    tile::ChannelAffine<1> affine;
    affine.load(p.affine, first_k + static_cast<int32_t>(ptx::tid_x()), p.conv.columns);
    const uint32_t at = smem + kVectorsAt + ptx::tid_x() * 4;
    ptx::st_shared(at, affine.mean[0]);
    ptx::st_shared(at + kFilters * 4, affine.scale[0]);
    ptx::st_shared(at + 2 * kFilters * 4, affine.bias[0]);
  }

  // The input under the tile, raw, zero outside the image. A warp takes a row, so that its loads are
  // contiguous.
  static RK_DEVICE void load_patch(const Params& p, uint32_t smem, const TileOrigin& origin) {
    const int32_t first_h = origin.conv_p() * kStride + p.conv.h.base;
    const int32_t first_w = origin.conv_q() * kStride + p.conv.w.base;
    const Element* image = p.x + int64_t{origin.n} * p.conv.h.source * p.conv.w.source * kChannels;
    RK_NO_UNROLL
    for (uint32_t row = ptx::warp_id(); row < kPatchRows; row += kThreads / 32) {
      const int32_t h = first_h + static_cast<int32_t>(row);
      const bool row_exists = h >= 0 && h < p.conv.h.source;
      const Element* source = image + (int64_t{h} * p.conv.w.source + first_w) * kChannels;
      RK_UNROLL
      for (uint32_t column = 0; column < (kPatchElements + 31) / 32; ++column) {
        const auto element = static_cast<int32_t>(column * 32 + ptx::lane_id());
        const int32_t in_row = first_w * kChannels + element;
        const bool exists =
            row_exists && element < kPatchElements && in_row >= 0 && in_row < p.conv.w.source * kChannels;
        const Element value = exists ? ptx::ld_global_nc(source + element) : Element{0};
        ptx::st_shared(smem + kPatchAt + (row * kPatchPitch + element) * 2, value);
      }
    }
  }

  // Byte offset in the patch of the window of the tile's convolution output m.
  static RK_DEVICE uint32_t window(uint32_t m) {
    const uint32_t pixel =
        m < kConvPixels ? m : kConvPixels - 1;  // row 255 of the MMA has no pixel; nobody reads its result
    return (pixel / kConvQ * kStride * kPatchPitch + pixel % kConvQ * kStride * kChannels) * 2;
  }

  // Two elements of depth group `group` (eight elements) of the window at `address`, those of this lane.
  static RK_DEVICE uint32_t fragment_pair(uint32_t address, int group, uint32_t tail_mask) {
    if (group >= kWindow * kGroupsPerRow) return 0;
    const uint32_t offset = (group / kGroupsPerRow * kPatchPitch + group % kGroupsPerRow * 8) * 2;
    const auto word = ptx::ld_shared<uint32_t>(address + offset);
    if (group % kGroupsPerRow < kGroupsPerRow - 1) return word;
    return word & tail_mask;  // elements 16 to 19; 20; none
  }

  // Convolution, affine, ReLU and rounding of the warp's 64 pixels, into the panel.
  static RK_DEVICE void convolve(uint32_t smem) {
    const uint32_t lane = ptx::lane_id();
    const uint32_t first_row = ptx::warp_id() * kWarpRows;
    uint32_t windows[kWarpRows / 8];
    RK_UNROLL
    for (int i = 0; i < kWarpRows / 8; ++i)
      windows[i] = smem + kPatchAt + window(first_row + i * 8 + lane / 4) + lane % 4 * 4;
    const uint32_t weights =
        smem + kWeightsAt + (lane % 8 + lane / 16 * 8) * kWeightPitch + lane / 8 % 2 * tile::kChunkBytes;

    const uint32_t tail_mask = lane % 4 < 2 ? 0xffffffffu : lane % 4 == 2 ? 0xffffu : 0u;
    float acc[kWarpRows / 16][kFilters / 8][4] = {};
    RK_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[kWarpRows / 16][4];
      RK_UNROLL
      for (int i = 0; i < kWarpRows / 16; ++i) {
        RK_UNROLL
        for (int e = 0; e < 4; ++e)
          a[i][e] = fragment_pair(windows[2 * i + e % 2], 2 * step + e / 2, tail_mask);
      }
      RK_UNROLL
      for (int j = 0; j < kFilters / 8; j += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4(b, weights + j * 8 * kWeightPitch + step * 32);
        const uint32_t b_lo[2] = {b[0], b[1]};
        const uint32_t b_hi[2] = {b[2], b[3]};
        RK_UNROLL
        for (int i = 0; i < kWarpRows / 16; ++i) {
          Math::mma(acc[i][j], a[i], b_lo);
          Math::mma(acc[i][j + 1], a[i], b_hi);
        }
      }
    }

    RK_UNROLL
    for (int j = 0; j < kFilters / 8; ++j) {
      const uint32_t channel = j * 8 + lane % 4 * 2;
      const uint32_t vectors = smem + kVectorsAt + channel * 4;
      const auto means = ptx::ld_shared<Words2>(vectors);
      const auto scales = ptx::ld_shared<Words2>(vectors + kFilters * 4);
      const auto biases = ptx::ld_shared<Words2>(vectors + 2 * kFilters * 4);
      tile::ChannelAffine<2> affine;
      RK_UNROLL
      for (int e = 0; e < 2; ++e) {
        affine.mean[e] = std::bit_cast<float>(means.word[e]);
        affine.scale[e] = std::bit_cast<float>(scales.word[e]);
        affine.bias[e] = std::bit_cast<float>(biases.word[e]);
      }
      RK_UNROLL
      for (int i = 0; i < kWarpRows / 8; ++i) {
        const float* values = &acc[i / 2][j][i % 2 * 2];
        const uint32_t word =
            Format::pack_pair(tile::relu(affine.apply(values[0], 0)), tile::relu(affine.apply(values[1], 1)));
        ptx::st_shared(smem + kPanelAt + (first_row + i * 8 + lane / 4) * kPanelPitch + channel * 2, word);
      }
    }
  }

  // Pools the panel: one thread, one pooled pixel, eight channels. Convolution outputs outside the image do
  // not exist.
  static RK_DEVICE void pool(const Params& p, uint32_t smem, const TileOrigin& origin, int32_t first_k) {
    constexpr uint32_t kChunks = kFilters / Format::kPerChunk;
    RK_NO_UNROLL
    for (uint32_t i = ptx::tid_x(); i < kPooledP * kPooledQ * kChunks; i += kThreads) {
      const uint32_t chunk = i % kChunks;
      const auto row = static_cast<int32_t>(i / kChunks / kPooledQ);
      const auto column = static_cast<int32_t>(i / kChunks % kPooledQ);
      const int32_t channel = first_k + static_cast<int32_t>(chunk) * Format::kPerChunk;
      if (origin.p + row >= p.pooled_p || origin.q + column >= p.pooled_q || channel >= p.conv.columns)
        continue;
      float best[Format::kPerChunk];
      RK_UNROLL
      for (float& value : best) value = -std::numeric_limits<float>::infinity();
      RK_NO_UNROLL
      for (int32_t r = 0; r < 3; ++r) {
        RK_UNROLL
        for (int32_t s = 0; s < 3; ++s) {
          const int32_t conv_p = 2 * row + r;
          const int32_t conv_q = 2 * column + s;
          if (static_cast<uint32_t>(origin.conv_p() + conv_p) >= static_cast<uint32_t>(p.conv.h.rows) ||
              static_cast<uint32_t>(origin.conv_q() + conv_q) >= static_cast<uint32_t>(p.conv.w.rows)) {
            continue;
          }
          float values[Format::kPerChunk];
          tile::unpack<Format>(
              ptx::ld_shared<Words4>(smem + kPanelAt + (conv_p * kConvQ + conv_q) * kPanelPitch +
                                     chunk * tile::kChunkBytes),
              values);
          RK_UNROLL
          for (int e = 0; e < Format::kPerChunk; ++e) best[e] = ptx::max_nan(best[e], values[e]);
        }
      }
      const int64_t pixel =
          (int64_t{origin.n} * p.pooled_p + origin.p + row) * p.pooled_q + origin.q + column;
      Element* y = p.y + pixel * p.conv.columns + channel;
      if (p.vector) {
        tile::store_chunk<Format, true>(y, Format::kPerChunk, best);
      } else {
        tile::store_chunk<Format, false>(y, p.conv.columns - channel, best);
      }
    }
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const auto first_k = static_cast<int32_t>(ptx::ctaid_y()) * kFilters;
    load_weights(p, smem, first_k);
    load_vectors(p, smem, first_k);
    for (uint32_t tile = ptx::ctaid_x(); tile < static_cast<uint32_t>(p.tiles); tile += ptx::nctaid_x()) {
      const TileOrigin origin(p, tile);
      load_patch(p, smem, origin);
      ptx::barrier_sync();  // patch and weights are there, and the last tile's panel has been pooled
      convolve(smem);
      ptx::barrier_sync();  // the panel is there, and nobody reads the patch any more
      pool(p, smem, origin, first_k);
    }
  }
};

template <class Math>
void launch(const tile::ConvGeometry& conv, const Stem& problem) {
  using Kernel = StemFpropKernel<Math>;
  using Element = typename Kernel::Element;
  const int32_t pooled_p = (conv.h.rows + 1) / 2;
  const int32_t pooled_q = (conv.w.rows + 1) / 2;
  const int32_t tiles_p = (pooled_p + Kernel::kPooledP - 1) / Kernel::kPooledP;
  const int32_t tiles_q = (pooled_q + Kernel::kPooledQ - 1) / Kernel::kPooledQ;
  const int32_t tiles = conv.n * tiles_p * tiles_q;
  const int32_t blocks = std::min(tiles, machine::sm_count() * static_cast<int32_t>(Kernel::kMinBlocks));
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(blocks),
                .y = static_cast<uint32_t>((conv.columns + Kernel::kFilters - 1) / Kernel::kFilters)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.conv = conv,
       .x = static_cast<const Element*>(problem.x),
       .weight = static_cast<const Element*>(problem.weight),
       .affine = problem.affine,
       .y = static_cast<Element*>(problem.y),
       .pooled_p = pooled_p,
       .pooled_q = pooled_q,
       .tiles = tiles,
       .divide_tiles_q = tile::Divisor(tiles_q),
       .divide_tiles_p = tile::Divisor(tiles_p),
       .vector = conv.columns % Kernel::Format::kPerChunk == 0 &&
                 reinterpret_cast<uintptr_t>(problem.y) % 16 == 0});
}

}  // namespace

void launch_stem_fprop(const tile::ConvGeometry& conv, const Stem& problem) {
  switch (problem.dtype) {
    case DType::bf16: return launch<tile::MmaBf16>(conv, problem);
    case DType::f16: return launch<tile::MmaF16>(conv, problem);
    case DType::f32: break;
  }
  throw std::runtime_error("stem_fprop: float32 has no fused stem, for " + describe(problem.shape));
}

}  // namespace rk::sm80
