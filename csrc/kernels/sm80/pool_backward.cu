// Gradients of max-pooling and of the global average.
//
//   max_pool          dx[n, h, w, c] = sum of dy[n, p, q, c] over the windows whose first maximum is (h, w)
//   global_avg_pool   dx[n, h, w, c] = dy[n, c] / (h w)
//
// A thread computes one chunk of channels of one pixel of dx by gathering: no atomics, and a fixed order of
// the sum. The forward pass left the position of each maximum within its window, r S + s, in a byte. Bytes:
// dy and indices once from DRAM, dx once.
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/divmod.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm80 {
namespace {

template <class Format, bool kVector>
struct MaxPoolBackwardKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* dy;
    const uint8_t* indices;
    Element* dx;
    int32_t n, h, w, c;
    int32_t p, q;
    int32_t r, s;
    int32_t stride_h, stride_w;
    int32_t pad_h, pad_w;
    int32_t outputs;  // chunks of dx
    tile::Divisor divide_chunks, divide_w, divide_h;
  };

  static constexpr auto kNameParts = tile::join_names("max_pool_backward", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 3> spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    const int64_t pooled = int64_t{p.n} * p.p * p.q * p.c;
    return {{{p.dy, pooled * kSize, Role::activation, "dy"},
             {p.indices, pooled, Role::activation, "indices"},
             {p.dx, int64_t{p.n} * p.h * p.w * p.c * kSize, Role::output, "dx"}}};
  }

  // The first window that reaches position x: ceil((x + pad - size + 1) / stride), not before 0.
  static RK_DEVICE int32_t first_window(int32_t x, int32_t pad, int32_t size, int32_t stride) {
    const int32_t reach = x + pad - size;
    return reach < 0 ? 0 : reach / stride + 1;
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t output = ptx::ctaid_x() * kThreads + ptx::tid_x();
    if (output >= static_cast<uint32_t>(p.outputs)) return;
    uint32_t chunk, column, row;
    const uint32_t pixel = p.divide_chunks.divide(output, chunk);
    const uint32_t n = p.divide_h.divide(p.divide_w.divide(pixel, column), row);
    const auto h = static_cast<int32_t>(row);
    const auto w = static_cast<int32_t>(column);
    const int32_t channel = static_cast<int32_t>(chunk) * Format::kPerChunk;
    const int32_t count = p.c - channel;

    float sums[Format::kPerChunk] = {};
    for (int32_t i = first_window(h, p.pad_h, p.r, p.stride_h); i < p.p && i * p.stride_h - p.pad_h <= h;
         ++i) {
      for (int32_t j = first_window(w, p.pad_w, p.s, p.stride_w); j < p.q && j * p.stride_w - p.pad_w <= w;
           ++j) {
        const auto mine =
            static_cast<uint32_t>((h - i * p.stride_h + p.pad_h) * p.s + w - j * p.stride_w + p.pad_w);
        const int64_t offset = ((int64_t{n} * p.p + i) * p.q + j) * p.c + channel;
        float dy[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.dy + offset, count, dy);
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) {
          const bool first_maximum = e < count && ptx::ld_global_nc(p.indices + offset + e) == mine;
          sums[e] += first_maximum ? dy[e] : 0.f;
        }
      }
    }
    tile::store_chunk<Format, kVector>(p.dx + int64_t{pixel} * p.c + channel, count, sums);
  }
};

template <class Format, bool kVector>
void launch(const MaxPool& forward, const void* dy, void* dx) {
  using Kernel = MaxPoolBackwardKernel<Format, kVector>;
  using Element = typename Format::Element;
  const auto chunks = static_cast<int32_t>((forward.c + Format::kPerChunk - 1) / Format::kPerChunk);
  const auto outputs = static_cast<int32_t>(forward.n * forward.h * forward.w * chunks);
  machine::launch<Kernel>({.grid = {.x = (outputs + Kernel::kThreads - 1) / Kernel::kThreads},
                           .block = Kernel::kThreads,
                           .stream = forward.stream},
                          {.dy = static_cast<const Element*>(dy),
                           .indices = forward.indices,
                           .dx = static_cast<Element*>(dx),
                           .n = static_cast<int32_t>(forward.n),
                           .h = static_cast<int32_t>(forward.h),
                           .w = static_cast<int32_t>(forward.w),
                           .c = static_cast<int32_t>(forward.c),
                           .p = static_cast<int32_t>(forward.p()),
                           .q = static_cast<int32_t>(forward.q()),
                           .r = static_cast<int32_t>(forward.r),
                           .s = static_cast<int32_t>(forward.s),
                           .stride_h = static_cast<int32_t>(forward.stride_h),
                           .stride_w = static_cast<int32_t>(forward.stride_w),
                           .pad_h = static_cast<int32_t>(forward.pad_h),
                           .pad_w = static_cast<int32_t>(forward.pad_w),
                           .outputs = outputs,
                           .divide_chunks = tile::Divisor(chunks),
                           .divide_w = tile::Divisor(static_cast<uint32_t>(forward.w)),
                           .divide_h = tile::Divisor(static_cast<uint32_t>(forward.h))});
}

template <class Format, bool kVector>
struct GlobalAvgPoolBackwardKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* dy;  // [n, c]
    Element* dx;        // [n, pixels, c]
    int64_t n, pixels;
    int32_t c;
  };

  static constexpr auto kNameParts = tile::join_names("global_avg_pool_backward", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 128;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    return {{{p.dy, p.n * p.c * kSize, Role::activation, "dy"},
             {p.dx, p.n * p.pixels * p.c * kSize, Role::output, "dx"}}};
  }

  // A block: one image, kThreads chunks of channels; a thread writes its chunk to every pixel.
  static RK_DEVICE void run(const Params& p) {
    const int64_t n = ptx::ctaid_x();
    const auto channel = static_cast<int32_t>(ptx::ctaid_y() * kThreads + ptx::tid_x()) * Format::kPerChunk;
    const int32_t count = p.c - channel;
    if (count <= 0) return;
    float values[Format::kPerChunk];
    tile::load_chunk<Format, kVector>(p.dy + n * p.c + channel, count, values);
    RK_UNROLL
    for (float& value : values) value /= static_cast<float>(p.pixels);
    for (int64_t pixel = 0; pixel < p.pixels; ++pixel) {
      tile::store_chunk<Format, kVector>(p.dx + (n * p.pixels + pixel) * p.c + channel, count, values);
    }
  }
};

template <class Format, bool kVector>
void launch(const GlobalAvgPool& problem) {
  using Kernel = GlobalAvgPoolBackwardKernel<Format, kVector>;
  using Element = typename Format::Element;
  constexpr int64_t kChannelsPerBlock = int64_t{Kernel::kThreads} * Format::kPerChunk;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(problem.n),
                .y = static_cast<uint32_t>((problem.c + kChannelsPerBlock - 1) / kChannelsPerBlock)},
       .block = Kernel::kThreads,
       .stream = problem.stream},
      {.dy = static_cast<const Element*>(problem.x),
       .dx = static_cast<Element*>(problem.y),
       .n = problem.n,
       .pixels = problem.pixels,
       .c = static_cast<int32_t>(problem.c)});
}

}  // namespace

void launch_max_pool_backward(const MaxPool& forward, const void* dy, void* dx, bool vector) {
  switch (forward.dtype) {
    case DType::bf16:
      return vector ? launch<tile::Bf16, true>(forward, dy, dx) : launch<tile::Bf16, false>(forward, dy, dx);
    case DType::f16:
      return vector ? launch<tile::F16, true>(forward, dy, dx) : launch<tile::F16, false>(forward, dy, dx);
    case DType::f32:
      return vector ? launch<tile::F32, true>(forward, dy, dx) : launch<tile::F32, false>(forward, dy, dx);
  }
  throw std::runtime_error("max_pool_backward: unknown dtype");
}

void launch_global_avg_pool_backward(const GlobalAvgPool& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return vector ? launch<tile::Bf16, true>(problem) : launch<tile::Bf16, false>(problem);
    case DType::f16: return vector ? launch<tile::F16, true>(problem) : launch<tile::F16, false>(problem);
    case DType::f32: return vector ? launch<tile::F32, true>(problem) : launch<tile::F32, false>(problem);
  }
  throw std::runtime_error("global_avg_pool_backward: unknown dtype");
}

}  // namespace rk::sm80
