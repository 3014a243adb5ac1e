// The gradient through BatchNorm, elementwise over [pixels, channels]:
//
//   dx = round(slope (mask . g - offset - (x - mean) tilt))
//
// with the coefficients of bn_backward_finalize. Where the statistics were constants, offset and tilt are
// zero and x is not read. Bytes: g, x and a bit an element of the mask read once, dx written once. A thread
// takes one chunk of channels and walks the pixels, so that its coefficients stay in registers.
#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/device.h"
#include "machine/launch_config.h"
#include "tile/affine.h"
#include "tile/epilogue.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm80 {
namespace {

template <class Format, bool kVector>
struct BnBackwardApplyKernel {
  using Element = typename Format::Element;
  static constexpr int kPerChunk = Format::kPerChunk;

  struct Params {
    const Element* g;
    const Element* x;  // or null
    const uint32_t* mask;
    const float* coefficients;  // [4, channels]
    Element* dx;
    int64_t pixels;
    int32_t channels;
    int32_t chunks;
  };

  static constexpr auto kNameParts = tile::join_names("bn_backward_apply", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = kVector ? 3 : 2;

  static std::array<machine::Span, 5> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    return {{{p.g, bytes, Role::activation, "g"},
             {p.x, bytes, Role::activation, "x"},
             {p.mask, p.pixels * ((p.channels + 31) / 32) * 4, Role::activation, "mask"},
             {p.coefficients, int64_t{p.channels} * 16, Role::vector, "coefficients"},
             {p.dx, bytes, Role::output, "dx"}}};
  }

  // Threads form a rectangle: chunks of channels fastest, then pixels. Those that do not fill a whole row
  // stay idle.
  static RK_DEVICE void run(const Params& p) {
    const int64_t threads = int64_t{ptx::nctaid_x()} * kThreads;
    const int64_t thread = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    const int64_t pixels_at_once = threads / p.chunks;
    const auto channel = static_cast<int32_t>(thread % p.chunks) * kPerChunk;
    const int64_t first_pixel = thread / p.chunks;
    if (first_pixel >= pixels_at_once) return;
    const int32_t count = p.channels - channel;

    tile::GradientCoefficients<kPerChunk> coefficients;
    coefficients.load(p.coefficients, channel, p.channels);

    for (int64_t pixel = first_pixel; pixel < p.pixels; pixel += pixels_at_once) {
      const int64_t offset = pixel * p.channels + channel;
      float h[kPerChunk], x[kPerChunk];
      tile::load_chunk<Format, kVector>(p.g + offset, count, h);
      if (p.mask != nullptr) tile::apply_mask(tile::read_mask(p.mask, pixel, p.channels, channel), h);
      if (p.x != nullptr) tile::load_chunk<Format, kVector>(p.x + offset, count, x);
      coefficients.apply(h, x, p.x != nullptr);
      tile::store_chunk<Format, kVector>(p.dx + offset, count, h);
    }
  }
};

template <class Format, bool kVector>
void launch(const BnBackwardApply& problem) {
  using Kernel = BnBackwardApplyKernel<Format, kVector>;
  using Element = typename Format::Element;
  const int64_t chunks = (problem.channels + Format::kPerChunk - 1) / Format::kPerChunk;
  const int64_t wanted = (problem.pixels * chunks + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t one_row = (chunks + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t blocks = std::max(one_row, std::min<int64_t>(wanted, 8 * machine::sm_count()));
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(blocks)}, .block = Kernel::kThreads, .stream = problem.stream},
      {.g = static_cast<const Element*>(problem.g),
       .x = static_cast<const Element*>(problem.gradient.x),
       .mask = problem.gradient.mask,
       .coefficients = problem.gradient.coefficients,
       .dx = static_cast<Element*>(problem.dx),
       .pixels = problem.pixels,
       .channels = static_cast<int32_t>(problem.channels),
       .chunks = static_cast<int32_t>(chunks)});
}

}  // namespace

void launch_bn_backward_apply(const BnBackwardApply& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return vector ? launch<tile::Bf16, true>(problem) : launch<tile::Bf16, false>(problem);
    case DType::f16: return vector ? launch<tile::F16, true>(problem) : launch<tile::F16, false>(problem);
    case DType::f32: return vector ? launch<tile::F32, true>(problem) : launch<tile::F32, false>(problem);
  }
  throw std::runtime_error("bn_backward_apply: unknown dtype");
}

}  // namespace rk::sm80
