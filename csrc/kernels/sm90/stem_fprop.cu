// The stem of a residual network in one kernel, for inference in bf16 and fp16 (He et al. 2015, Table 1:
// conv1 and the pool):
//
//   y = max_pool_3x3/2(round(relu(affine(conv_7x7/2(x, w)))))      x [n, h, w, 3], w [k, 7, 7, 3], y [n,
//   (p+1)/2, (q+1)/2, k]
//
// Filters are the rows of the product and pixels its columns: a warpgroup multiplies 64 filters by 15 rows of
// 8 convolution outputs, m64n120k16. So the filters stay in registers, fragments of a for the whole depth,
// and shared memory is read for pixels alone: 64 bytes a clock, where 64 columns of filters would take 128.
// And a thread's accumulators are then the column of outputs that it pools.
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
// patches; two warpgroups multiply, and pool in registers. A block keeps its 64 filters and walks over units:
// 14 pooled rows, 7 for each warpgroup, of an image, from left to right in strips of 4 pooled pixels. The
// last column of a strip is carried over to the next, so that only rows at the seams are computed twice, 15
// for 14. Small batches have units of fewer strips, which start one strip early for what is carried over.
//
// Bytes: x once (seams from L2), the weights once a block, y once; the convolution's output, four times y,
// never exists.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/bulk.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/math.h>
#include <ptx/mbarrier.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include "kernels/sm90/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "machine/matrix_operand.h"
#include "machine/tensor_map.h"
#include "tile/affine.h"
#include "tile/divmod.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/sm90/ring.h"

namespace rk::sm90 {
namespace {

using machine::Swizzle;

template <class Format>
struct StemFpropKernel {
  using Element = typename Format::Element;

  struct Params {
    machine::TensorMap x;  // {3 w, h, n}: a row of an image is one dimension
    machine::TensorMap y;  // {k, pooled q, pooled p, n}
    const Element* weight;
    Affine affine;
    int32_t k, p, q;          // of the convolution
    int32_t strips;           // in a row of the output
    int32_t strips_per_unit;  // that a unit stores
    int32_t units;
    tile::Divisor divide_segments, divide_bands;  // units of a band, bands of an image
    const void* x_data;
    const void* y_data;
    int64_t x_bytes, y_bytes;
  };

  static constexpr auto kNameParts = tile::join_names("stem_fprop", "sm90", Format::kName);
  static constexpr const char* kName = kNameParts.data();

  // Roles by warp: two warpgroups of consumers, then one warp that loads and three that spread.
  static constexpr uint32_t kGroups = 2;
  static constexpr uint32_t kConsumerWarps = 4 * kGroups;
  static constexpr uint32_t kSpreaderWarps = 3;
  static constexpr uint32_t kThreads = (kConsumerWarps + 1 + kSpreaderWarps) * 32;
  static constexpr uint32_t kMinBlocks = 1;

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
  static constexpr int kPooledP = 7, kPooledQ = 4;             // of a warpgroup
  static constexpr int kConvP = 2 * kPooledP + 1, kConvQ = 8;  // the rows above and below are shared
  static constexpr int kColumns = kConvP * kConvQ;
  static constexpr int kBandP = kGroups * kPooledP;  // of a unit
  static_assert(kConvQ == 2 * kPooledQ && kConvQ == 8, "a row of a strip is a group of eight columns");

  // Raw strips: rows of x that start at a multiple of 32 bytes, the first window's first element at an odd
  // place. Their pitch is 8 words modulo 32: four rows of eight windows, 3 words apart, lie in different
  // banks.
  static constexpr int kRows = 64;  // kStride 2 kBandP + kWindow = 63 are needed
  static constexpr int kStripElements = kStride * kConvQ * kChannels;
  static constexpr int kLead = 16 - kPadding * kChannels;
  static constexpr uint32_t kRawRow = 80 * 2;
  static constexpr uint32_t kRawBytes = kRows * kRawRow;
  static_assert(kStride * 2 * kBandP + kWindow <= kRows, "the rows under a unit");
  static_assert(kStripElements % 16 == 0 && kLead % 2 == kFirst, "windows start in the upper half of a word");
  static_assert(kLead + kStride * kChannels * (kConvQ - 1) + kRowElements <= 80, "the strip's last window");
  static_assert(kRawRow / 4 % 32 == 8, "four rows of windows lie in different banks");

  // Patches: third, parity of the row of x, row, window.
  static constexpr uint32_t kPatchRow = kConvQ * 16;
  static constexpr uint32_t kParityBytes = kRows / 2 * kPatchRow;
  static constexpr uint32_t kThirdBytes = 2 * kParityBytes;
  static constexpr uint32_t kPatchBytes = kThirds * kThirdBytes;

  // What a warpgroup stores: pooled pixels of 64 filters, and one row of them that stays behind.
  static constexpr uint32_t kPixelBytes = kFilters * 2;
  static constexpr uint32_t kPanelBytes = (kPooledP + 1) * kPooledQ * kPixelBytes;
  static_assert(kPixelBytes == machine::span_bytes(Swizzle::span128) && kPanelBytes % 1024 == 0,
                "panels start where the swizzle does");

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

  static constexpr uint32_t kPanelsAt = 0;
  static constexpr uint32_t kPatchesAt = kPanelsAt + 2 * kGroups * kPanelBytes;
  static constexpr uint32_t kRawAt = kPatchesAt + kPatchStages * kPatchBytes;
  static constexpr uint32_t kZerosAt = kRawAt + kRawStages * kRawBytes;
  static constexpr uint32_t kRawBarriersAt = kZerosAt + kConvP * kPatchRow;
  static constexpr uint32_t kPatchBarriersAt = kRawBarriersAt + RawRing::kBarrierBytes;
  static constexpr uint32_t kSmem = kPatchBarriersAt + PatchRing::kBarrierBytes;
  static_assert(kRawAt % 128 == 0 && kRawBytes % 128 == 0, "where TMA writes");

  static std::array<machine::Span, 7> spans(const Params& p) {
    using machine::Role;
    const int64_t vector_bytes = int64_t{p.k} * 4;
    return {{{p.x_data, p.x_bytes, Role::activation, "x"},
             {p.weight, int64_t{p.k} * kWindow * kRowElements * 2, Role::weight, "weight"},
             {p.y_data, p.y_bytes, Role::output, "y"},
             {p.affine.weight, vector_bytes, Role::vector, "scale"},
             {p.affine.bias, vector_bytes, Role::vector, "shift"},
             {p.affine.mean, vector_bytes, Role::vector, "mean"},
             {p.affine.var, vector_bytes, Role::vector, "var"}}};
  }

  // Image, first pooled row and strips of a unit. The strip before `stored` is there for its last column.
  struct Unit {
    int32_t n, p;
    int32_t first, stored, end;

    RK_DEVICE Unit(const Params& params, uint32_t unit) {
      uint32_t segment, band;
      n = static_cast<int32_t>(
          params.divide_bands.divide(params.divide_segments.divide(unit, segment), band));
      p = static_cast<int32_t>(band) * kBandP;
      stored = static_cast<int32_t>(segment) * params.strips_per_unit;
      first = stored == 0 ? 0 : stored - 1;
      end = stored + params.strips_per_unit < params.strips ? stored + params.strips_per_unit : params.strips;
    }
  };

  // visit(unit, strip) for all of the block's, in the order in which they go through the rings.
  template <class Visit>
  static RK_DEVICE void each_strip(const Params& p, Visit&& visit) {
    RK_NO_UNROLL
    for (uint32_t i = ptx::ctaid_x(); i < static_cast<uint32_t>(p.units); i += ptx::nctaid_x()) {
      const Unit unit(p, i);
      RK_NO_UNROLL
      for (int32_t strip = unit.first; strip < unit.end; ++strip) visit(unit, strip);
    }
  }

  // ---- the producers

  static RK_DEVICE void load(const Params& p, uint32_t smem) {
    const RawRing ring{smem + kRawBarriersAt};
    typename RawRing::Position at;
    each_strip(p, [&](const Unit& unit, int32_t strip) {
      const uint32_t full = ring.acquire(at, kRawBytes);
      // The first row of outputs is the one above the first pooled row.
      const int32_t row = kStride * (2 * unit.p - 1) - kPadding;
      const int32_t element = strip * kStripElements - kPadding * kChannels - kLead;
      ptx::tma_load(smem + kRawAt + at.stage * kRawBytes, p.x, full, {element, row, unit.n});
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

  static RK_DEVICE void spread(const Params& p, uint32_t smem, uint32_t warp) {
    const RawRing raw{smem + kRawBarriersAt};
    const PatchRing patches{smem + kPatchBarriersAt};
    typename RawRing::Position from;
    typename PatchRing::Position to;
    each_strip(p, [&](const Unit&, int32_t) {
      patches.await_empty(to);
      raw.await(from);
      RK_NO_UNROLL
      for (uint32_t row = warp * 4 + ptx::lane_id() / 8; row < kRows; row += kSpreaderWarps * 4) {
        spread_row(smem + kRawAt + from.stage * kRawBytes, smem + kPatchesAt + to.stage * kPatchBytes, row);
      }
      ptx::fence_proxy_async();
      raw.release(from);
      patches.publish(to);
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

  // A thread's part of filters first and first + 8 as fragments of a.
  static RK_DEVICE void load_weights(const Params& p, int32_t first, ptx::WgmmaFragment (&weights)[kSteps]) {
    const int32_t pair = static_cast<int32_t>(ptx::lane_id() % 4) * 2;
    RK_UNROLL
    for (int f = 0; f < 2; ++f) {
      const int32_t filter = first + 8 * f;
      const Element* taps = p.weight + int64_t{filter} * kWindow * kRowElements + pair;
      RK_UNROLL
      for (int i = 0; i < kSteps * 2; ++i) {
        const Chunk c = chunk(i / 2, i % 2);
        const int32_t at = c.third * 8 - kFirst;  // in the row of the window, of the chunk's first element
        const auto load = [&](int32_t e) -> uint32_t {
          const bool exists =
              filter < p.k && c.row < kWindow && at + pair + e >= 0 && at + pair + e < kRowElements;
          return exists ? ptx::ld_global_nc(taps + (c.row * kRowElements + at + e)) : 0;
        };
        weights[i / 2].registers()[i % 2 * 2 + f] = load(0) | load(1) << 16;
      }
    }
  }

  // One strip of a warpgroup: filters by 15 rows of 8 outputs.
  static RK_DEVICE void multiply(uint32_t patch, uint32_t zeros, ptx::WgmmaFragment (&weights)[kSteps],
                                 ptx::WgmmaAccumulator<kColumns>& d) {
    constexpr auto kType = Format::kDType == DType::bf16 ? ptx::MatrixType::bf16 : ptx::MatrixType::f16;
    ptx::wgmma_fence(d, weights);
    RK_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t first = patch + chunk_offset(chunk(step, 0));
      const uint32_t second = chunk(step, 1).row < kWindow ? patch + chunk_offset(chunk(step, 1)) : zeros;
      const uint64_t b = machine::matrix_descriptor(Swizzle::none, first, second - first, kPatchRow);
      ptx::wgmma_rs<kType, ptx::Major::k>(d, weights[step], b, step != 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>(d, weights);
  }

  // The last column of the strip before, pooled over rows, in the fourth lane of each four.
  using Carry = float[kPooledP][2];

  // Affine, pool and ReLU, of a thread's two columns of two filters; then words[f][i] are rows 2i and 2i + 1
  // of the pooled pixel lane % 4 of filter lane / 4 + 8 f. Outputs outside the image do not exist. Rounding
  // and ReLU are monotonous: they may follow the maximum.
  static RK_DEVICE void pool(const Params& p, const tile::ChannelAffine<1> (&affine)[2],
                             const ptx::WgmmaAccumulator<kColumns>& d, int32_t pooled_p, int32_t strip,
                             Carry& carry, uint32_t (&words)[2][(kPooledP + 1) / 2]) {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    const uint32_t lane = ptx::lane_id();
    const bool is_last_lane = lane % 4 == 3;
    const bool right_exists = strip * kConvQ + static_cast<int32_t>(lane % 4) * 2 + 1 < p.q;
    const auto output = [&](int row, int e) { return affine[e / 2].apply(d.get(row * 4 + e), 0); };

    float above[4], pooled[2][kPooledP + 1];
    RK_UNROLL
    for (int e = 0; e < 4; ++e) above[e] = pooled_p > 0 ? output(0, e) : kNone;
    RK_UNROLL
    for (int i = 0; i < kPooledP; ++i) {
      const bool below_exists = 2 * (pooled_p + i) + 1 < p.p;
      float column[4];
      RK_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float below = below_exists ? output(2 * i + 2, e) : kNone;
        column[e] = ptx::max_nan(ptx::max_nan(above[e], output(2 * i + 1, e)), below);
        above[e] = below;
      }
      RK_UNROLL
      for (int f = 0; f < 2; ++f) {
        const float right = right_exists ? column[2 * f + 1] : kNone;
        const float left = ptx::shfl_idx(is_last_lane ? carry[i][f] : right, lane / 4 * 4 + (lane + 3) % 4);
        carry[i][f] = right;
        pooled[f][i] = tile::relu(ptx::max_nan(ptx::max_nan(column[2 * f], right), left));
      }
    }
    RK_UNROLL
    for (int f = 0; f < 2; ++f) {
      pooled[f][kPooledP] = 0.f;  // the row that stays behind
      RK_UNROLL
      for (int i = 0; i <= kPooledP; i += 2) {
        words[f][i / 2] = Format::pack_pair(pooled[f][i], pooled[f][i + 1]);
      }
    }
  }

  // Into the warpgroup's panel, pixels of 64 filters as the map of y has them swizzled.
  static RK_DEVICE void write_panel(uint32_t panel, uint32_t warp,
                                    const uint32_t (&words)[2][(kPooledP + 1) / 2]) {
    const uint32_t lane = ptx::lane_id();
    const uint32_t matrix = lane / 8;  // filters 8 (matrix % 2), rows 2 (matrix / 2) of four
    const uint32_t pixel = (matrix / 2 * 2 + lane % 2) * kPooledQ + lane % 8 / 2;
    const uint32_t address = panel + pixel * kPixelBytes + (warp * 2 + matrix % 2) * 16;
    const uint32_t row = machine::swizzled(Swizzle::span128, address);
    RK_UNROLL
    for (int i = 0; i < (kPooledP + 1) / 2; i += 2) {
      const uint32_t four[4] = {words[0][i], words[1][i], words[0][i + 1], words[1][i + 1]};
      ptx::stmatrix_x4_trans(row + i / 2 * (4 * kPooledQ * kPixelBytes), four);
    }
  }

  static RK_DEVICE void group_sync(uint32_t group) {
    if (group == 0) {
      ptx::barrier_sync<1>(128);
    } else {
      ptx::barrier_sync<2>(128);
    }
  }

  static RK_DEVICE void consume(const Params& p, uint32_t smem, uint32_t group) {
    const uint32_t warp = ptx::warp_id() % 4;
    const bool stores = ptx::tid_x() % 128 == 0;
    const auto first_k = static_cast<int32_t>(ptx::ctaid_y()) * kFilters;
    const auto filter = first_k + static_cast<int32_t>(warp * 16 + ptx::lane_id() / 4);
    ptx::WgmmaFragment weights[kSteps];
    load_weights(p, filter, weights);
    tile::ChannelAffine<1> affine[2];
    RK_UNROLL
    for (int f = 0; f < 2; ++f) affine[f].load(p.affine, filter + 8 * f, p.k);

    const PatchRing patches{smem + kPatchBarriersAt};
    typename PatchRing::Position at;
    uint32_t panel = smem + kPanelsAt + 2 * group * kPanelBytes;
    const uint32_t both_panels = panel ^ (panel + kPanelBytes);
    Carry carry;
    each_strip(p, [&](const Unit& unit, int32_t strip) {
      if (strip == unit.first) {
        RK_UNROLL
        for (auto& row : carry) row[0] = row[1] = -std::numeric_limits<float>::infinity();
      }
      ptx::WgmmaAccumulator<kColumns> d;
      patches.await(at);
      multiply(smem + kPatchesAt + at.stage * kPatchBytes + group * (2 * kPooledP * kPatchRow),
               smem + kZerosAt, weights, d);
      patches.release(at);
      at.advance();

      const int32_t pooled_p = unit.p + static_cast<int32_t>(group) * kPooledP;
      uint32_t words[2][(kPooledP + 1) / 2];
      pool(p, affine, d, pooled_p, strip, carry, words);
      if (strip < unit.stored) return;
      write_panel(panel, warp, words);
      ptx::fence_proxy_async();
      if (stores) ptx::bulk_wait_read<0>();  // the other panel may be written from here on
      group_sync(group);
      if (stores) {
        ptx::tma_store(p.y, panel, {first_k, strip * kPooledQ, pooled_p, unit.n});
        ptx::bulk_commit();
      }
      panel ^= both_panels;
    });
    if (stores) ptx::bulk_wait_read<0>();
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const uint32_t warp = ptx::warp_id();
    if (ptx::tid_x() == 0) {
      RawRing{smem + kRawBarriersAt}.init();
      PatchRing{smem + kPatchBarriersAt}.init();
      ptx::fence_mbarrier_init();
    }
    // For wgmma, too: the fences of those who spread come behind the barrier.
    if (ptx::tid_x() < kConvP * kPatchRow / 16) {
      ptx::st_shared(smem + kZerosAt + ptx::tid_x() * 16, Words4{});
    }
    ptx::barrier_sync();
    if (warp < kConsumerWarps) {
      consume(p, smem, warp / 4);
    } else if (warp > kConsumerWarps) {
      spread(p, smem, warp - kConsumerWarps - 1);
    } else if (ptx::elect_one()) {
      load(p, smem);
    }
  }
};

// How many strips a unit stores: whole rows keep the recomputed strips away, shorter ones fill the machine.
int32_t choose_strips(int64_t bands, int32_t strips, int64_t blocks) {
  int32_t best = strips;
  int64_t least = (bands + blocks - 1) / blocks * strips;
  for (int32_t stored = strips - 1; stored > 0; --stored) {
    const int64_t units = bands * ((strips + stored - 1) / stored);
    const int64_t time = (units + blocks - 1) / blocks * (stored + 1);
    if (time < least) least = time, best = stored;
  }
  return best;
}

template <class Format>
void launch(const Stem& problem) {
  using Kernel = StemFpropKernel<Format>;
  const ConvShape& shape = problem.shape;
  const int64_t p = shape.p(), q = shape.q();
  const int64_t pooled_p = (p + 1) / 2, pooled_q = (q + 1) / 2;
  const auto strips = static_cast<int32_t>((pooled_q + Kernel::kPooledQ - 1) / Kernel::kPooledQ);
  const int64_t bands = (pooled_p + Kernel::kBandP - 1) / Kernel::kBandP;
  const int64_t filter_tiles = (shape.k + Kernel::kFilters - 1) / Kernel::kFilters;
  const int64_t most = std::max<int64_t>(machine::sm_count() / filter_tiles, 1);
  const int32_t stored = choose_strips(shape.n * bands, strips, most);
  const int32_t segments = (strips + stored - 1) / stored;
  const int64_t units = shape.n * bands * segments;
  constexpr machine::ElementType kType =
      Format::kDType == DType::bf16 ? machine::ElementType::bf16 : machine::ElementType::f16;
  const auto extent = [](int64_t size) { return static_cast<uint64_t>(size); };
  const uint64_t x_row = extent(shape.w * shape.c * 2), y_pixel = extent(shape.k * 2);
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(std::min(units, most)), .y = static_cast<uint32_t>(filter_tiles)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.x = machine::encode({.type = kType,
                             .rank = 3,
                             .data = problem.x,
                             .extent = {extent(shape.w * shape.c), extent(shape.h), extent(shape.n)},
                             .stride = {x_row, x_row * extent(shape.h)},
                             .box = {Kernel::kRawRow / 2, Kernel::kRows, 1},
                             .element_stride = {1, 1, 1},
                             .swizzle = Swizzle::none}),
       .y = machine::encode(
           {.type = kType,
            .rank = 4,
            .data = problem.y,
            .extent = {extent(shape.k), extent(pooled_q), extent(pooled_p), extent(shape.n)},
            .stride = {y_pixel, y_pixel * extent(pooled_q), y_pixel * extent(pooled_q * pooled_p)},
            .box = {Kernel::kFilters, Kernel::kPooledQ, Kernel::kPooledP, 1},
            .element_stride = {1, 1, 1, 1},
            .swizzle = Swizzle::span128}),
       .weight = static_cast<const typename Kernel::Element*>(problem.weight),
       .affine = problem.affine,
       .k = static_cast<int32_t>(shape.k),
       .p = static_cast<int32_t>(p),
       .q = static_cast<int32_t>(q),
       .strips = strips,
       .strips_per_unit = stored,
       .units = static_cast<int32_t>(units),
       .divide_segments = tile::Divisor(static_cast<uint32_t>(segments)),
       .divide_bands = tile::Divisor(static_cast<uint32_t>(bands)),
       .x_data = problem.x,
       .y_data = problem.y,
       .x_bytes = shape.n * shape.h * shape.w * shape.c * 2,
       .y_bytes = shape.n * pooled_p * pooled_q * shape.k * 2});
}

}  // namespace

void launch_stem_fprop(const Stem& problem) {
  switch (problem.dtype) {
    case DType::bf16: return launch<tile::Bf16>(problem);
    case DType::f16: return launch<tile::F16>(problem);
    case DType::f32: break;
  }
  throw std::runtime_error("stem_fprop: float32 has no fused stem, for " + describe(problem.shape));
}

}  // namespace rk::sm90
