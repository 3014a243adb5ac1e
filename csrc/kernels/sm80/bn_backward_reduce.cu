// The sums that BatchNorm's backward needs:
//
//   h = mask . g                                   written only if asked for
//   sums = (sum h, sum h (x - mean)) per channel   x: BatchNorm's input; and those of another BatchNorm that
//                                                  h reaches too, that of a projection on the shortcut
//
// as partials of [row ranges, 2, channels], which reduce_statistics adds up. A block takes a range of pixels
// and one group of channels; lanes run over chunks of channels, the other threads over pixels. The mean is
// subtracted from every element, never from the sum. Bytes: g, the mask and each x read once, h written once.
#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/epilogue.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/statistics.h"

namespace rk::sm80 {
namespace {

// kLanes chunks of channels side by side: 32, or 8 for tensors of few channels. kNorms: BatchNorms.
template <class Format, int kLanes, bool kVector, int kNorms>
struct BnBackwardReduceKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* g;
    const uint32_t* mask;
    Element* h;
    tile::Statistics statistics[kNorms];
    int64_t pixels, pixels_per_range;
    int32_t channels;
  };

  static constexpr auto kNameParts = tile::join_names("bn_backward_reduce", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 2;
  static constexpr int kRowThreads = kThreads / kLanes;
  static constexpr int kColumns = kLanes * Format::kPerChunk;
  static constexpr uint32_t kSmem = tile::kTileStatisticsBytes<kRowThreads, kColumns>;

  static auto spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    std::array<machine::Span, 3 + 3 * kNorms> all = {
        {{p.g, bytes, Role::activation, "g"},
         {p.mask, p.pixels * ((p.channels + 31) / 32) * 4, Role::activation, "mask"},
         {p.h, bytes, Role::output, "h"}}};
    for (int i = 0; i < kNorms; ++i) {
      const tile::Statistics& statistics = p.statistics[i];
      all[3 + 3 * i] = {statistics.bn_input, bytes, Role::activation, "x"};
      all[4 + 3 * i] = {statistics.partials, statistics.row_tiles * kSumsPerTile * p.channels * 4,
                        Role::partial, "partials"};
      all[5 + 3 * i] = {statistics.bn.mean, int64_t{p.channels} * 4, Role::vector, "mean"};
    }
    return all;
  }

  static RK_DEVICE void run(const Params& p) {
    const auto range = static_cast<int32_t>(ptx::ctaid_x());
    const auto first_channel = static_cast<int32_t>(ptx::ctaid_y()) * kColumns;
    const int32_t channel = first_channel + static_cast<int32_t>(ptx::tid_x() % kLanes) * Format::kPerChunk;
    const int32_t count = p.channels - channel;
    const int64_t first_pixel = range * p.pixels_per_range;
    const int64_t last_pixel =
        first_pixel + p.pixels_per_range < p.pixels ? first_pixel + p.pixels_per_range : p.pixels;

    tile::RunningStatistics<Format::kPerChunk> statistics[kNorms];
    if (count > 0) {
      float mean[kNorms][Format::kPerChunk];
      RK_UNROLL
      for (int i = 0; i < kNorms; ++i)
        tile::load_vector(p.statistics[i].bn.mean, channel, p.channels, 0.f, mean[i]);
      for (int64_t pixel = first_pixel + ptx::tid_x() / kLanes; pixel < last_pixel; pixel += kRowThreads) {
        const int64_t offset = pixel * p.channels + channel;
        float g[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.g + offset, count, g);
        if (p.mask != nullptr) tile::apply_mask(tile::read_mask(p.mask, pixel, p.channels, channel), g);
        if (p.h != nullptr) tile::store_chunk<Format, kVector>(p.h + offset, count, g);
        RK_UNROLL
        for (int i = 0; i < kNorms; ++i) {
          float x[Format::kPerChunk];
          const auto* inputs = static_cast<const Element*>(p.statistics[i].bn_input);
          tile::load_chunk<Format, kVector>(inputs + offset, count, x);
          statistics[i].add_gradient(g, x, mean[i]);
        }
      }
    }
    RK_UNROLL
    for (int i = 0; i < kNorms; ++i) {
      if (i > 0) ptx::barrier_sync();  // the shared memory is free again
      tile::reduce_tile_statistics<kRowThreads, kColumns, Format::kPerChunk>(
          p.statistics[i], statistics[i], ptx::smem_base(), range, first_channel, p.channels);
    }
  }
};

tile::Statistics sums_of(const void* x, const float* mean, float* partials, int64_t ranges) {
  return {.kind = tile::Statistics::Kind::gradient,
          .partials = partials,
          .row_tiles = ranges,
          .bn_input = x,
          .bn = {.weight = nullptr, .bias = nullptr, .mean = mean, .var = nullptr, .eps = 0.f},
          .bn_relu = false};
}

template <class Format, int kLanes, bool kVector, int kNorms>
void launch(const BnBackwardReduce& problem) {
  using Kernel = BnBackwardReduceKernel<Format, kLanes, kVector, kNorms>;
  using Element = typename Kernel::Element;
  const int64_t ranges = bn_backward_ranges(problem.pixels);
  typename Kernel::Params params = {.g = static_cast<const Element*>(problem.g),
                                    .mask = problem.mask,
                                    .h = static_cast<Element*>(problem.h),
                                    .statistics = {},
                                    .pixels = problem.pixels,
                                    .pixels_per_range = (problem.pixels + ranges - 1) / ranges,
                                    .channels = static_cast<int32_t>(problem.channels)};
  params.statistics[0] = sums_of(problem.x, problem.mean, problem.partials, ranges);
  if constexpr (kNorms == 2)
    params.statistics[1] = sums_of(problem.other_x, problem.other_mean, problem.other_partials, ranges);
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(ranges),
                .y = static_cast<uint32_t>((problem.channels + Kernel::kColumns - 1) / Kernel::kColumns)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      params);
}

template <class Format, int kLanes, bool kVector>
void launch(const BnBackwardReduce& problem) {
  problem.other_x == nullptr ? launch<Format, kLanes, kVector, 1>(problem)
                             : launch<Format, kLanes, kVector, 2>(problem);
}

template <class Format>
void launch(const BnBackwardReduce& problem, bool vector) {
  const bool few = problem.channels <= 8 * Format::kPerChunk;
  if (vector) {
    few ? launch<Format, 8, true>(problem) : launch<Format, 32, true>(problem);
  } else {
    few ? launch<Format, 8, false>(problem) : launch<Format, 32, false>(problem);
  }
}

}  // namespace

void launch_bn_backward_reduce(const BnBackwardReduce& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return launch<tile::Bf16>(problem, vector);
    case DType::f16: return launch<tile::F16>(problem, vector);
    case DType::f32: return launch<tile::F32>(problem, vector);
  }
  throw std::runtime_error("bn_backward_reduce: unknown dtype");
}

}  // namespace rk::sm80
