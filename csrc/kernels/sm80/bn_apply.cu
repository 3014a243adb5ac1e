// y = round(relu?((x - mean) scale + bias + residual)), elementwise over [pixels, channels].
//
// Bytes: x and residual read once, y written once; the per-channel vectors come from L1. A thread takes one
// chunk of channels and walks the pixels, so its coefficients stay in registers.
#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm80 {
namespace {

template <class Format, bool kVector>
struct BnApplyKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* x;
    const Element* residual;
    Element* y;
    Affine affine;
    int64_t pixels;
    int32_t channels;
    int32_t chunks;  // of channels
    bool relu;
  };

  static constexpr auto kNameParts = tile::join_names("bn_apply", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 3;

  static std::array<machine::Span, 7> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    const int64_t vector_bytes = int64_t{p.channels} * 4;
    return {{{p.x, bytes, Role::activation, "x"},
             {p.residual, bytes, Role::activation, "residual"},
             {p.y, bytes, Role::output, "y"},
             {p.affine.weight, vector_bytes, Role::vector, "scale"},
             {p.affine.bias, vector_bytes, Role::vector, "shift"},
             {p.affine.mean, vector_bytes, Role::vector, "mean"},
             {p.affine.var, vector_bytes, Role::vector, "var"}}};
  }

  // Threads form a rectangle: chunks of channels fastest, then pixels. Those that do not fill a whole row
  // stay idle.
  static RK_DEVICE void run(const Params& p) {
    const int64_t threads = int64_t{ptx::nctaid_x()} * kThreads;
    const int64_t thread = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    const int64_t pixels_at_once = threads / p.chunks;
    const auto channel = static_cast<int32_t>(thread % p.chunks) * Format::kPerChunk;
    const int64_t first_pixel = thread / p.chunks;
    if (first_pixel >= pixels_at_once) return;
    const int32_t count = p.channels - channel;

    tile::ChannelAffine<Format::kPerChunk> affine;
    affine.load(p.affine, channel, p.channels);

    for (int64_t pixel = first_pixel; pixel < p.pixels; pixel += pixels_at_once) {
      const int64_t offset = pixel * p.channels + channel;
      float values[Format::kPerChunk];
      tile::load_chunk<Format, kVector>(p.x + offset, count, values);
      RK_UNROLL
      for (int e = 0; e < Format::kPerChunk; ++e) values[e] = affine.apply(values[e], e);
      if (p.residual != nullptr) {
        float skip[Format::kPerChunk];
        tile::load_chunk<Format, kVector>(p.residual + offset, count, skip);
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) values[e] += skip[e];
      }
      if (p.relu) {
        RK_UNROLL
        for (int e = 0; e < Format::kPerChunk; ++e) values[e] = tile::relu(values[e]);
      }
      tile::store_chunk<Format, kVector>(p.y + offset, count, values);
    }
  }
};

template <class Format, bool kVector>
void launch(const BnApply& problem) {
  using Kernel = BnApplyKernel<Format, kVector>;
  using Element = typename Format::Element;
  const int64_t chunks = (problem.channels + Format::kPerChunk - 1) / Format::kPerChunk;
  // At least one row of chunks, at most eight full blocks an SM: beyond that the loop is cheaper than more
  // blocks.
  const int64_t wanted = (problem.pixels * chunks + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t one_row = (chunks + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t blocks = std::max(one_row, std::min<int64_t>(wanted, 8 * machine::sm_count()));
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(blocks)}, .block = Kernel::kThreads, .stream = problem.stream},
      {.x = static_cast<const Element*>(problem.x),
       .residual = static_cast<const Element*>(problem.residual),
       .y = static_cast<Element*>(problem.y),
       .affine = problem.affine,
       .pixels = problem.pixels,
       .channels = static_cast<int32_t>(problem.channels),
       .chunks = static_cast<int32_t>(chunks),
       .relu = problem.relu});
}

}  // namespace

void launch_bn_apply(const BnApply& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return vector ? launch<tile::Bf16, true>(problem) : launch<tile::Bf16, false>(problem);
    case DType::f16: return vector ? launch<tile::F16, true>(problem) : launch<tile::F16, false>(problem);
    case DType::f32: return vector ? launch<tile::F32, true>(problem) : launch<tile::F32, false>(problem);
  }
  throw std::runtime_error("bn_apply: unknown dtype");
}

}  // namespace rk::sm80
