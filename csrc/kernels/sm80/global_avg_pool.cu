// y[n, c] = round(sum over pixels of x[n, pixel, c] / pixels)
//
// A block owns 32 chunks of channels of one image, one a lane, so that a warp reads 512 contiguous bytes; its
// eight warps take every eighth pixel, and their float32 sums are added in the order of the warps. Bytes: x
// read once, y written once.
#include <array>
#include <bit>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm80 {
namespace {

template <class Format, bool kVector>
struct GlobalAvgPoolKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* x;
    Element* y;
    int64_t n, pixels;
    int32_t c;
  };

  static constexpr auto kNameParts = tile::join_names("global_avg_pool", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;
  static constexpr uint32_t kWarps = kThreads / 32;
  static constexpr uint32_t kSumsPerWarp = 32 * Format::kPerChunk;
  static constexpr uint32_t kSmem = kWarps * kSumsPerWarp * 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    return {{{p.x, p.n * p.pixels * p.c * kSize, Role::activation, "x"},
             {p.y, p.n * p.c * kSize, Role::output, "y"}}};
  }

  // Where the sum of (warp, lane, element) waits. Lanes are fastest: no two share a bank.
  static RK_DEVICE uint32_t slot(uint32_t warp, int element, uint32_t lane) {
    return ptx::smem_base() + (warp * kSumsPerWarp + element * 32 + lane) * 4;
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t warp = ptx::warp_id();
    const uint32_t lane = ptx::lane_id();
    const int64_t n = ptx::ctaid_x();
    const auto channel = static_cast<int32_t>((ptx::ctaid_y() * 32 + lane) * Format::kPerChunk);
    const int32_t count = p.c - channel;

    float sums[Format::kPerChunk] = {};
    if (count > 0) {
      for (int64_t pixel = warp; pixel < p.pixels; pixel += kWarps) {
        float values[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.x + (n * p.pixels + pixel) * p.c + channel, count, values);
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) sums[e] += values[e];
      }
    }
    RK_UNROLL
    for (int e = 0; e < Format::kPerChunk; ++e) ptx::st_shared(slot(warp, e, lane), sums[e]);
    ptx::barrier_sync();
    if (warp != 0 || count <= 0) return;

    RK_UNROLL
    for (int e = 0; e < Format::kPerChunk; ++e) {
      for (uint32_t other = 1; other < kWarps; ++other)
        sums[e] += ptx::ld_shared<float>(slot(other, e, lane));
      sums[e] /= static_cast<float>(p.pixels);
    }
    tile::store_chunk<Format, kVector>(p.y + n * p.c + channel, count, sums);
  }
};

template <class Format, bool kVector>
void launch(const GlobalAvgPool& problem) {
  using Kernel = GlobalAvgPoolKernel<Format, kVector>;
  using Element = typename Format::Element;
  constexpr int64_t kChannelsPerBlock = 32 * Format::kPerChunk;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(problem.n),
                .y = static_cast<uint32_t>((problem.c + kChannelsPerBlock - 1) / kChannelsPerBlock)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.x = static_cast<const Element*>(problem.x),
       .y = static_cast<Element*>(problem.y),
       .n = problem.n,
       .pixels = problem.pixels,
       .c = static_cast<int32_t>(problem.c)});
}

}  // namespace

void launch_global_avg_pool(const GlobalAvgPool& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return vector ? launch<tile::Bf16, true>(problem) : launch<tile::Bf16, false>(problem);
    case DType::f16: return vector ? launch<tile::F16, true>(problem) : launch<tile::F16, false>(problem);
    case DType::f32: return vector ? launch<tile::F32, true>(problem) : launch<tile::F32, false>(problem);
  }
  throw std::runtime_error("global_avg_pool: unknown dtype");
}

}  // namespace rk::sm80
