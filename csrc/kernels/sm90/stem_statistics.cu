// The stem's convolution in training, in bf16 and fp16, with the statistics that BatchNorm needs of it:
//
//   y = round(conv_7x7/2(x, w))      x [n, h, w, 3], w [k, 7, 7, 3], y [n, p, q, k]
//
// The convolution is that of stem_tile.h, on images and filters as they are: padded to a 16-byte chunk of
// channels they would be multiplied 392 deep. A unit is 16 rows of outputs of an image, 8 for each warpgroup.
// A thread has 16 outputs of each of two filters in a strip; their moments are merged strip by strip, and
// over the four lanes that share a filter at the end of a half band, which is a tile of the partials: 8 q
// pixels. No row is computed twice, and p is a multiple of 16.
//
// Bytes: x once (seams from L2), the weights once a block, y once; 12 bytes a filter and half band.
#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/bulk.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/tma.h>
#include <ptx/warp.h>

#include "kernels/sm90/launchers.h"
#include "kernels/sm90/stem_tile.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/statistics.h"

namespace rk::sm90 {
namespace {

template <class Format>
struct StemStatisticsKernel {
  using Element = typename Format::Element;

  static constexpr int kRowsP = 8;  // of a warpgroup
  using Tile = StemTile<Format, kRowsP, kRowsP, 0>;
  static_assert(kStemStatisticsRows == Tile::kBandP, "dispatch asks for whole units");

  struct Params {
    machine::TensorMap x, y;
    const Element* weight;
    float* partials;  // [half bands, kMomentsPerTile, k]
    int32_t k, q;
    int32_t half_bands;  // of an image
    StemUnits units;
    const void* x_data;
    const void* y_data;
    int64_t x_bytes, y_bytes, partials_bytes;
  };

  static constexpr auto kNameParts = tile::join_names("stem_statistics", "sm90", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = Tile::kThreads;
  static constexpr uint32_t kMinBlocks = 1;

  // Shared memory: two panels a warpgroup, then the tile.
  static constexpr uint32_t kPanelBytes = kRowsP * Tile::kColumnsQ * Tile::kPixelBytes;
  static constexpr uint32_t kTileAt = 2 * Tile::kGroups * kPanelBytes;
  static constexpr uint32_t kSmem = kTileAt + Tile::kBytes;
  static_assert(kPanelBytes % 1024 == 0, "panels start where the swizzle does");

  static std::array<machine::Span, 4> spans(const Params& p) {
    using machine::Role;
    return {{{p.x_data, p.x_bytes, Role::activation, "x"},
             {p.weight, int64_t{p.k} * Tile::kWindow * Tile::kRowElements * 2, Role::weight, "weight"},
             {p.y_data, p.y_bytes, Role::output, "y"},
             {p.partials, p.partials_bytes, Role::partial, "partials"}}};
  }

  // Rounds a strip's outputs: words[f][row] are the thread's two columns of filter lane / 4 + 8 f.
  static RK_DEVICE void round(const typename Tile::Accumulator& d, uint32_t (&words)[2][kRowsP]) {
    RK_UNROLL
    for (int row = 0; row < kRowsP; ++row) {
      RK_UNROLL
      for (int f = 0; f < 2; ++f) {
        words[f][row] = Format::pack_pair(d.get(row * 4 + 2 * f), d.get(row * 4 + 2 * f + 1));
      }
    }
  }

  // The moments of the rounded values, whose first one is the pivot. Columns past the image do not count.
  static RK_DEVICE void add_moments(const uint32_t (&words)[2][kRowsP], int32_t columns,
                                    tile::Moments (&total)[2]) {
    tile::RunningStatistics<2> seen;
    const float exist[2] = {columns > 0 ? 1.f : 0.f, columns > 1 ? 1.f : 0.f};
    seen.count = (exist[0] + exist[1]) * kRowsP;
    RK_UNROLL
    for (int f = 0; f < 2; ++f) {
      RK_UNROLL
      for (int row = 0; row < kRowsP; ++row) {
        float value[2];
        Format::unpack_pair(words[f][row], value[0], value[1]);
        if (row == 0) seen.pivot[f] = value[0];
        RK_UNROLL
        for (int e = 0; e < 2; ++e) {
          const float difference = exist[e] != 0.f ? value[e] - seen.pivot[f] : 0.f;
          seen.first[f] += difference;
          seen.second[f] = ptx::fma(difference, difference, seen.second[f]);
        }
      }
      float moments[3];
      seen.values(tile::Statistics::Kind::moments, f, moments);
      total[f].merge({seen.count, moments[0], moments[1], moments[2]});
    }
  }

  // Those of the four lanes that share a filter, in lane order.
  static RK_DEVICE void store_moments(const Params& p, int64_t row_tile, tile::Moments (&total)[2]) {
    RK_UNROLL
    for (int f = 0; f < 2; ++f) {
      RK_UNROLL
      for (uint32_t distance = 1; distance < 4; distance *= 2) {
        total[f].merge({ptx::shfl_down(total[f].n, distance), ptx::shfl_down(total[f].pivot, distance),
                        ptx::shfl_down(total[f].offset, distance), ptx::shfl_down(total[f].m2, distance)});
      }
      const int32_t filter = Tile::first_filter() + 8 * f;
      if (ptx::lane_id() % 4 != 0 || filter >= p.k) continue;
      float* partials = p.partials + row_tile * kMomentsPerTile * p.k + filter;
      ptx::st_global(partials, total[f].pivot);
      ptx::st_global(partials + p.k, total[f].offset);
      ptx::st_global(partials + 2 * p.k, total[f].m2);
    }
  }

  // Into the warpgroup's panel.
  static RK_DEVICE void write_panel(uint32_t panel, const uint32_t (&words)[2][kRowsP]) {
    const uint32_t row =
        Tile::panel_row(panel, [](uint32_t i, uint32_t c) { return i * Tile::kColumnsQ + c; });
    RK_UNROLL
    for (int i = 0; i < kRowsP; i += 2) {
      const uint32_t four[4] = {words[0][i], words[1][i], words[0][i + 1], words[1][i + 1]};
      ptx::stmatrix_x4_trans(row + i * (Tile::kColumnsQ * Tile::kPixelBytes), four);
    }
  }

  static RK_DEVICE void consume(const Params& p, uint32_t smem, uint32_t group) {
    const Tile tile{smem + kTileAt};
    typename Tile::Weights weights;
    Tile::load_weights(p.weight, p.k, weights);

    typename Tile::PatchRing::Position at;
    uint32_t panel = smem + 2 * group * kPanelBytes;
    const uint32_t both_panels = panel ^ (panel + kPanelBytes);
    tile::Moments total[2];
    Tile::each_strip(p.units, [&](const StemUnit& unit, int32_t strip) {
      if (strip == 0) total[0] = total[1] = {};
      typename Tile::Accumulator d;
      tile.multiply(at, group, weights, d);
      uint32_t words[2][kRowsP];
      round(d, words);
      const int32_t column = strip * Tile::kColumnsQ;
      add_moments(words, p.q - column - static_cast<int32_t>(ptx::lane_id() % 4) * 2, total);
      write_panel(panel, words);
      Tile::swap_panels(group);
      const int32_t half_band = Tile::half_band(unit, group);
      if (Tile::stores()) {
        const auto first_k = static_cast<int32_t>(ptx::ctaid_y()) * Tile::kFilters;
        ptx::tma_store(p.y, panel, {first_k, column, half_band * kRowsP, unit.n});
        ptx::bulk_commit();
      }
      panel ^= both_panels;
      if (strip + 1 == unit.end) store_moments(p, int64_t{unit.n} * p.half_bands + half_band, total);
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

template <class Format>
void launch(const StemStatistics& problem) {
  using Kernel = StemStatisticsKernel<Format>;
  using Tile = typename Kernel::Tile;
  const ConvShape& shape = problem.shape;
  const int64_t p = shape.p(), q = shape.q();
  const int64_t strips = (q + Tile::kColumnsQ - 1) / Tile::kColumnsQ;
  const int64_t filter_tiles = (shape.k + Tile::kFilters - 1) / Tile::kFilters;
  const int64_t blocks = std::max<int64_t>(machine::sm_count() / filter_tiles, 1);
  const int64_t half_bands = p / Kernel::kRowsP;
  const StemUnits units(shape.n, p / Tile::kBandP, strips, strips);
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(std::min<int64_t>(units.units, blocks)),
                .y = static_cast<uint32_t>(filter_tiles)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.x = Tile::source_map(shape, problem.x),
       .y = Tile::output_map(problem.y, shape.n, p, q, shape.k, Kernel::kRowsP, Tile::kColumnsQ),
       .weight = static_cast<const typename Kernel::Element*>(problem.weight),
       .partials = problem.partials,
       .k = static_cast<int32_t>(shape.k),
       .q = static_cast<int32_t>(q),
       .half_bands = static_cast<int32_t>(half_bands),
       .units = units,
       .x_data = problem.x,
       .y_data = problem.y,
       .x_bytes = shape.n * shape.h * shape.w * shape.c * 2,
       .y_bytes = shape.n * p * q * shape.k * 2,
       .partials_bytes = shape.n * half_bands * kMomentsPerTile * shape.k * 4});
}

}  // namespace

void launch_stem_statistics(const StemStatistics& problem) {
  switch (problem.dtype) {
    case DType::bf16: return launch<tile::Bf16>(problem);
    case DType::f16: return launch<tile::F16>(problem);
    case DType::f32: break;
  }
  throw std::runtime_error("stem_statistics: not in float32, for " + describe(problem.shape));
}

}  // namespace rk::sm90
