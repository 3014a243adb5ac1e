// The stem of a residual network in one kernel, for inference in bf16 and fp16 (He et al. 2015, Table 1:
// conv1 and the pool):
//
//   y = max_pool_3x3/2(round(relu(affine(conv_7x7/2(x, w)))))      x [n, h, w, 3], w [k, 7, 7, 3], y [n,
//   (p+1)/2, (q+1)/2, k]
//
// The convolution is that of stem_tile.h. A thread's accumulators are two columns of outputs of a filter, so
// it pools them in registers. A unit is 14 pooled rows of an image, 7 for each warpgroup, in strips of 4
// pooled pixels. The last column of a strip is carried over to the next, so that only rows at the seams are
// computed twice, 15 for 14. Small batches have units of fewer strips, which start one strip early for what
// is carried over.
//
// Bytes: x once (seams from L2), the weights once a block, y once; the convolution's output, four times y,
// never exists.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include <launch.h>
#include <ptx/bulk.h>
#include <ptx/ids.h>
#include <ptx/math.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/tma.h>
#include <ptx/warp.h>

#include "kernels/sm90/launchers.h"
#include "kernels/sm90/stem_tile.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm90 {
namespace {

template <class Format>
struct StemFpropKernel {
  using Element = typename Format::Element;

  // Of a warpgroup. The pool's windows of neighbours share a row of outputs.
  static constexpr int kPooledP = 7, kPooledQ = 4;
  using Tile = StemTile<Format, 2 * kPooledP + 1, 2 * kPooledP, 1>;
  static_assert(Tile::kColumnsQ == 2 * kPooledQ, "a strip is whole pairs of columns");

  struct Params {
    machine::TensorMap x, y;
    const Element* weight;
    Affine affine;
    int32_t k, p, q;  // of the convolution
    StemUnits units;
    const void* x_data;
    const void* y_data;
    int64_t x_bytes, y_bytes;
  };

  static constexpr auto kNameParts = tile::join_names("stem_fprop", "sm90", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kThreads;
  static constexpr uint32_t kMinBlocks = 1;

  // Shared memory: two panels a warpgroup, with one row of pixels that stays behind; then the tile.
  static constexpr uint32_t kPanelBytes = (kPooledP + 1) * kPooledQ * Tile::kPixelBytes;
  static constexpr uint32_t kTileAt = 2 * Tile::kGroups * kPanelBytes;
  static constexpr uint32_t kSmem = kTileAt + Tile::kBytes;
  static_assert(kPanelBytes % 1024 == 0, "panels start where the swizzle does");

  static std::array<machine::Span, 7> spans(const Params& p) {
    using machine::Role;
    const int64_t vector_bytes = int64_t{p.k} * 4;
    return {{{p.x_data, p.x_bytes, Role::activation, "x"},
             {p.weight, int64_t{p.k} * Tile::kWindow * Tile::kRowElements * 2, Role::weight, "weight"},
             {p.y_data, p.y_bytes, Role::output, "y"},
             {p.affine.weight, vector_bytes, Role::vector, "scale"},
             {p.affine.bias, vector_bytes, Role::vector, "shift"},
             {p.affine.mean, vector_bytes, Role::vector, "mean"},
             {p.affine.var, vector_bytes, Role::vector, "var"}}};
  }

  // The last column of the strip before, pooled over rows, in the fourth lane of each four.
  using Carry = float[kPooledP][2];

  // Affine, pool and ReLU, of a thread's two columns of two filters; then words[f][i] are rows 2i and 2i + 1
  // of the pooled pixel lane % 4 of filter lane / 4 + 8 f. Outputs outside the image do not exist. Rounding
  // and ReLU are monotonous: they may follow the maximum.
  static RK_DEVICE void pool(const Params& p, const tile::ChannelAffine<1> (&affine)[2],
                             const typename Tile::Accumulator& d, int32_t pooled_p, int32_t strip,
                             Carry& carry, uint32_t (&words)[2][(kPooledP + 1) / 2]) {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    const uint32_t lane = ptx::lane_id();
    const bool is_last_lane = lane % 4 == 3;
    const bool right_exists = strip * Tile::kColumnsQ + static_cast<int32_t>(lane % 4) * 2 + 1 < p.q;
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

  // Into the warpgroup's panel.
  static RK_DEVICE void write_panel(uint32_t panel, const uint32_t (&words)[2][(kPooledP + 1) / 2]) {
    const uint32_t row =
        Tile::panel_row(panel, [](uint32_t i, uint32_t c) { return (2 * i + c % 2) * kPooledQ + c / 2; });
    RK_UNROLL
    for (int i = 0; i < (kPooledP + 1) / 2; i += 2) {
      const uint32_t four[4] = {words[0][i], words[1][i], words[0][i + 1], words[1][i + 1]};
      ptx::stmatrix_x4_trans(row + i / 2 * (4 * kPooledQ * Tile::kPixelBytes), four);
    }
  }

  static RK_DEVICE void consume(const Params& p, uint32_t smem, uint32_t group) {
    const Tile tile{smem + kTileAt};
    typename Tile::Weights weights;
    Tile::load_weights(p.weight, p.k, weights);
    tile::ChannelAffine<1> affine[2];
    RK_UNROLL
    for (int f = 0; f < 2; ++f) affine[f].load(p.affine, Tile::first_filter() + 8 * f, p.k);

    typename Tile::PatchRing::Position at;
    uint32_t panel = smem + 2 * group * kPanelBytes;
    const uint32_t both_panels = panel ^ (panel + kPanelBytes);
    Carry carry;
    Tile::each_strip(p.units, [&](const StemUnit& unit, int32_t strip) {
      if (strip == unit.first) {
        RK_UNROLL
        for (auto& pair : carry) pair[0] = pair[1] = -std::numeric_limits<float>::infinity();
      }
      typename Tile::Accumulator d;
      tile.multiply(at, group, weights, d);
      const int32_t pooled_p = Tile::half_band(unit, group) * kPooledP;
      uint32_t words[2][(kPooledP + 1) / 2];
      pool(p, affine, d, pooled_p, strip, carry, words);
      if (strip < unit.stored) return;
      write_panel(panel, words);
      Tile::swap_panels(group);
      if (Tile::stores()) {
        const auto first_k = static_cast<int32_t>(ptx::ctaid_y()) * Tile::kFilters;
        ptx::tma_store(p.y, panel, {first_k, strip * kPooledQ, pooled_p, unit.n});
        ptx::bulk_commit();
      }
      panel ^= both_panels;
    });
    if (Tile::stores()) ptx::bulk_wait_read<0>();
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t smem = ptx::smem_base();
    const Tile tile{smem + kTileAt};
    Tile::prefetch_maps(p.x, p.y);
    tile.init();
    if (ptx::warp_id() < Tile::kConsumerWarps) {
      consume(p, smem, ptx::warp_id() / 4);
    } else {
      tile.produce(p.x, p.units);
    }
  }
};

// How many strips a unit stores: whole rows keep the recomputed strips away, shorter ones fill the machine.
int64_t choose_strips(int64_t bands, int64_t strips, int64_t blocks) {
  int64_t best = strips;
  int64_t least = (bands + blocks - 1) / blocks * strips;
  for (int64_t stored = strips - 1; stored > 0; --stored) {
    const int64_t units = bands * ((strips + stored - 1) / stored);
    const int64_t time = (units + blocks - 1) / blocks * (stored + 1);
    if (time < least) least = time, best = stored;
  }
  return best;
}

template <class Format>
void launch(const Stem& problem) {
  using Kernel = StemFpropKernel<Format>;
  using Tile = typename Kernel::Tile;
  const ConvShape& shape = problem.shape;
  const int64_t pooled_p = (shape.p() + 1) / 2, pooled_q = (shape.q() + 1) / 2;
  const int64_t strips = (pooled_q + Kernel::kPooledQ - 1) / Kernel::kPooledQ;
  const int64_t bands = (2 * pooled_p + Tile::kBandP - 1) / Tile::kBandP;
  const int64_t filter_tiles = (shape.k + Tile::kFilters - 1) / Tile::kFilters;
  const int64_t blocks = std::max<int64_t>(machine::sm_count() / filter_tiles, 1);
  const StemUnits units(shape.n, bands, strips, choose_strips(shape.n * bands, strips, blocks));
  machine::launch<Kernel>({.grid = {.x = static_cast<uint32_t>(std::min<int64_t>(units.units, blocks)),
                                    .y = static_cast<uint32_t>(filter_tiles)},
                           .block = Kernel::kThreads,
                           .smem = Kernel::kSmem,
                           .stream = problem.stream},
                          {.x = Tile::source_map(shape, problem.x),
                           .y = Tile::output_map(problem.y, shape.n, pooled_p, pooled_q, shape.k,
                                                 Kernel::kPooledP, Kernel::kPooledQ),
                           .weight = static_cast<const typename Kernel::Element*>(problem.weight),
                           .affine = problem.affine,
                           .k = static_cast<int32_t>(shape.k),
                           .p = static_cast<int32_t>(shape.p()),
                           .q = static_cast<int32_t>(shape.q()),
                           .units = units,
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
