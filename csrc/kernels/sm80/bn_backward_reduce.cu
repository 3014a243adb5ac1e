// The sums that BatchNorm's backward needs, and the gradient after ReLU:
//
//   h = mask . g                                   (written only if there is a mask; otherwise h is g)
//   sums = (sum h, sum h (x - mean)) per channel   x: BatchNorm's input
//
// as partials of [row ranges, channels], which reduce_statistics adds up. A block takes a range of pixels and
// one group of channels; lanes run over chunks of channels, the other threads over pixels. The mean is
// subtracted from every element, never from the sum. Bytes: g, x and the mask read once, h written once.
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
#include "tile/epilogue.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/statistics.h"

namespace rk::sm80 {
namespace {

// kLanes chunks of channels side by side: 32, or 8 for tensors of few channels.
template <class Format, int kLanes, bool kVector>
struct BnBackwardReduceKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* g;
    const Element* x;
    const uint32_t* mask;
    Element* h;
    tile::Statistics statistics;
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

  static std::array<machine::Span, 6> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    return {{{p.g, bytes, Role::activation, "g"},
             {p.x, bytes, Role::activation, "x"},
             {p.mask, p.pixels * ((p.channels + 31) / 32) * 4, Role::activation, "mask"},
             {p.h, bytes, Role::output, "h"},
             {p.statistics.partials, p.statistics.row_tiles * p.channels * 8, Role::partial, "partials"},
             {p.statistics.mean, int64_t{p.channels} * 4, Role::vector, "mean"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const auto range = static_cast<int32_t>(ptx::ctaid_x());
    const auto first_channel = static_cast<int32_t>(ptx::ctaid_y()) * kColumns;
    const int32_t channel = first_channel + static_cast<int32_t>(ptx::tid_x() % kLanes) * Format::kPerChunk;
    const int32_t count = p.channels - channel;
    const int64_t first_pixel = range * p.pixels_per_range;
    const int64_t last_pixel =
        first_pixel + p.pixels_per_range < p.pixels ? first_pixel + p.pixels_per_range : p.pixels;

    tile::RunningStatistics<Format::kPerChunk> statistics;
    if (count > 0) {
      for (int64_t pixel = first_pixel + ptx::tid_x() / kLanes; pixel < last_pixel; pixel += kRowThreads) {
        const int64_t offset = pixel * p.channels + channel;
        float g[Format::kPerChunk], x[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.g + offset, count, g);
        tile::load_chunk<Format, kVector>(p.x + offset, count, x);
        if (p.mask != nullptr) {
          const uint32_t bits = tile::read_mask<Format>(p.mask, pixel, p.channels, channel);
          RK_UNROLL
          for (int e = 0; e < Format::kPerChunk; ++e) g[e] = (bits >> e) % 2 != 0 ? g[e] : 0.f;
          tile::store_chunk<Format, kVector>(p.h + offset, count, g);
        }
        statistics.add_gradient(g, x, p.statistics.mean, channel, p.channels);
      }
    }
    tile::reduce_tile_statistics<kRowThreads, kColumns, Format::kPerChunk>(
        p.statistics, statistics, ptx::smem_base(), range, first_channel, p.channels);
  }
};

template <class Format, int kLanes, bool kVector>
void launch(const BnBackwardReduce& problem) {
  using Kernel = BnBackwardReduceKernel<Format, kLanes, kVector>;
  using Element = typename Format::Element;
  const int64_t ranges = bn_backward_ranges(problem.pixels);
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(ranges),
                .y = static_cast<uint32_t>((problem.channels + Kernel::kColumns - 1) / Kernel::kColumns)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.g = static_cast<const Element*>(problem.g),
       .x = static_cast<const Element*>(problem.x),
       .mask = problem.mask,
       .h = static_cast<Element*>(problem.h),
       .statistics = {.kind = tile::Statistics::Kind::gradient,
                      .partials = reinterpret_cast<Words2*>(problem.partials),
                      .bn_input = problem.x,
                      .mean = problem.mean,
                      .row_tiles = ranges},
       .pixels = problem.pixels,
       .pixels_per_range = (problem.pixels + ranges - 1) / ranges,
       .channels = static_cast<int32_t>(problem.channels)});
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
