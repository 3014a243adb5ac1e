// y[n, p, q, c] = max over the window (r, s) of x[n, p stride - pad + r, q stride - pad + s, c]
//
// and, for the backward pass, where in its window the first maximum is: r S + s, a byte.
//
// Pixels outside the image count as -inf; NaN wins, as in torch.nn.functional.max_pool2d. A thread computes
// one chunk of channels of one output pixel. Bytes: x read once from DRAM (its overlaps from L1 and L2), y
// written once.
#include <array>
#include <cstdint>
#include <limits>
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
struct MaxPoolKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* x;
    Element* y;
    uint8_t* indices;  // or null
    int32_t n, h, w, c;
    int32_t p, q;
    int32_t r, s;
    int32_t stride_h, stride_w;
    int32_t pad_h, pad_w;
    int32_t outputs;  // chunks of y: n p q chunks(c)
    tile::Divisor divide_chunks, divide_q, divide_p;
  };

  static constexpr auto kNameParts = tile::join_names("max_pool", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 3> spans(const Params& p) {
    using machine::Role;
    constexpr int64_t kSize = sizeof(Element);
    return {{{p.x, int64_t{p.n} * p.h * p.w * p.c * kSize, Role::activation, "x"},
             {p.y, int64_t{p.n} * p.p * p.q * p.c * kSize, Role::output, "y"},
             {p.indices, int64_t{p.n} * p.p * p.q * p.c, Role::output, "indices"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t output = ptx::ctaid_x() * kThreads + ptx::tid_x();
    if (output >= static_cast<uint32_t>(p.outputs)) return;
    uint32_t chunk, q_out, p_out;
    const uint32_t pixel = p.divide_chunks.divide(output, chunk);
    const uint32_t n = p.divide_p.divide(p.divide_q.divide(pixel, q_out), p_out);
    const int32_t channel = static_cast<int32_t>(chunk) * Format::kPerChunk;
    const int32_t count = p.c - channel;

    float best[Format::kPerChunk];
    RK_UNROLL
    for (float& value : best) value = -std::numeric_limits<float>::infinity();
    const int32_t first_h = static_cast<int32_t>(p_out) * p.stride_h - p.pad_h;
    const int32_t first_w = static_cast<int32_t>(q_out) * p.stride_w - p.pad_w;
    const int32_t end_h = first_h + p.r < p.h ? first_h + p.r : p.h;
    const int32_t end_w = first_w + p.s < p.w ? first_w + p.s : p.w;
    const int32_t start_h = first_h > 0 ? first_h : 0;
    const int32_t start_w = first_w > 0 ? first_w : 0;
    uint32_t index[Format::kPerChunk];
    RK_UNROLL
    for (uint32_t& value : index)
      value = static_cast<uint32_t>((start_h - first_h) * p.s + start_w - first_w);
    for (int32_t h = start_h; h < end_h; ++h) {
      for (int32_t w = start_w; w < end_w; ++w) {
        const int64_t offset = ((int64_t{n} * p.h + h) * p.w + w) * p.c + channel;
        float values[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.x + offset, count, values);
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) {
          // PyTorch's rule: the first maximum, or the last NaN.
          const bool better = values[e] > best[e] || values[e] != values[e];
          best[e] = better ? values[e] : best[e];
          index[e] = better ? static_cast<uint32_t>((h - first_h) * p.s + w - first_w) : index[e];
        }
      }
    }
    const int64_t offset = int64_t{pixel} * p.c + channel;
    tile::store_chunk<Format, kVector>(p.y + offset, count, best);
    if (p.indices == nullptr) return;
    RK_UNROLL
    for (int e = 0; e < Format::kPerChunk; ++e) {
      if (e < count) ptx::st_global(p.indices + offset + e, static_cast<uint8_t>(index[e]));
    }
  }
};

template <class Format, bool kVector>
void launch(const MaxPool& problem) {
  using Kernel = MaxPoolKernel<Format, kVector>;
  using Element = typename Format::Element;
  const auto chunks = static_cast<int32_t>((problem.c + Format::kPerChunk - 1) / Format::kPerChunk);
  const auto p = static_cast<int32_t>(problem.p());
  const auto q = static_cast<int32_t>(problem.q());
  const auto outputs = static_cast<int32_t>(problem.n * p * q * chunks);
  machine::launch<Kernel>({.grid = {.x = (outputs + Kernel::kThreads - 1) / Kernel::kThreads},
                           .block = Kernel::kThreads,
                           .stream = problem.stream},
                          {.x = static_cast<const Element*>(problem.x),
                           .y = static_cast<Element*>(problem.y),
                           .indices = problem.indices,
                           .n = static_cast<int32_t>(problem.n),
                           .h = static_cast<int32_t>(problem.h),
                           .w = static_cast<int32_t>(problem.w),
                           .c = static_cast<int32_t>(problem.c),
                           .p = p,
                           .q = q,
                           .r = static_cast<int32_t>(problem.r),
                           .s = static_cast<int32_t>(problem.s),
                           .stride_h = static_cast<int32_t>(problem.stride_h),
                           .stride_w = static_cast<int32_t>(problem.stride_w),
                           .pad_h = static_cast<int32_t>(problem.pad_h),
                           .pad_w = static_cast<int32_t>(problem.pad_w),
                           .outputs = outputs,
                           .divide_chunks = tile::Divisor(chunks),
                           .divide_q = tile::Divisor(q),
                           .divide_p = tile::Divisor(p)});
}

}  // namespace

void launch_max_pool(const MaxPool& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return vector ? launch<tile::Bf16, true>(problem) : launch<tile::Bf16, false>(problem);
    case DType::f16: return vector ? launch<tile::F16, true>(problem) : launch<tile::F16, false>(problem);
    case DType::f32: return vector ? launch<tile::F32, true>(problem) : launch<tile::F32, false>(problem);
  }
  throw std::runtime_error("max_pool: unknown dtype");
}

}  // namespace rk::sm80
