// y = round(relu?(affine(x) + residual_affine(residual))), elementwise over [pixels, channels]; in training
// also ReLU's mask.
//
// The mask has a bit a channel, set where the gradient passes: not (y <= 0), so that NaN passes as it does in
// PyTorch. It is int32 [pixels, ceil(channels / 32)]; bits past the last channel are zero.
//
// Bytes: x and residual read once, y (and a bit an element) written once; the per-channel vectors come from
// L1. A thread takes one chunk of channels (with a mask eight channels, one byte of it) and walks the pixels,
// so its coefficients stay in registers.
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
#include "tile/divmod.h"
#include "tile/epilogue.h"
#include "tile/format.h"
#include "tile/name.h"
#include "tile/residual.h"

namespace rk::sm80 {
namespace {

// kNormedResidual: the residual has an affine map of its own, whose coefficients take as many registers
// again.
template <class Format, bool kVector, bool kMask, bool kNormedResidual>
struct BnApplyKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* x;
    const Element* residual;
    Element* y;
    uint8_t* mask;
    Affine affine, residual_affine;
    ResidualView residual_view;
    tile::Divisor divide_image, divide_row;  // pixels of an image, and of a row
    int64_t pixels;
    int64_t images;
    int32_t channels;
    int32_t columns;  // groups of kWidth channels
    bool relu;
  };

  static constexpr auto kNameParts = [] {
    if constexpr (kMask) {
      return tile::join_names("bn_relu_mask", Format::kName);
    } else {
      return tile::join_names("bn_apply", Format::kName);
    }
  }();
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = kNormedResidual || !kVector ? 2 : 3;
  static constexpr int kWidth = kMask ? 8 : Format::kPerChunk;

  static std::array<machine::Span, 11> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    const int64_t vector_bytes = int64_t{p.channels} * 4;
    return {{{p.x, bytes, Role::activation, "x"},
             {p.residual,
              tile::residual_elements(p.residual_view, p.images, p.pixels * p.channels) *
                  static_cast<int64_t>(sizeof(Element)),
              Role::activation, "residual"},
             {p.y, bytes, Role::output, "y"},
             {p.mask, p.pixels * mask_bytes(p.channels), Role::output, "mask"},
             {p.affine.weight, vector_bytes, Role::vector, "scale"},
             {p.affine.bias, vector_bytes, Role::vector, "shift"},
             {p.affine.mean, vector_bytes, Role::vector, "mean"},
             {p.affine.var, vector_bytes, Role::vector, "var"},
             {p.residual_affine.weight, vector_bytes, Role::vector, "residual_scale"},
             {p.residual_affine.bias, vector_bytes, Role::vector, "residual_shift"},
             {p.residual_affine.mean, vector_bytes, Role::vector, "residual_mean"}}};
  }

  // Of one pixel.
  static constexpr int32_t mask_bytes(int32_t channels) { return (channels + 31) / 32 * 4; }

  static RK_DEVICE void load(const Element* first, int count, float (&values)[kWidth]) {
    RK_UNROLL
    for (int i = 0; i < kWidth; i += Format::kPerChunk) {
      float chunk[Format::kPerChunk];
      tile::load_chunk<Format, kVector>(first + i, count - i, chunk);
      RK_UNROLL
      for (int e = 0; e < Format::kPerChunk; ++e) values[i + e] = chunk[e];
    }
  }

  // Pixel and channels of the output become the residual's; false where it has nothing to add.
  static RK_DEVICE bool find_residual(const Params& p, int32_t channel, int64_t& pixel, int32_t& channels) {
    if (p.residual_view.channels == 0) return true;
    channels = p.residual_view.channels;
    uint32_t in_image, w;
    const uint32_t n = p.divide_image.divide(static_cast<uint32_t>(pixel), in_image);
    const uint32_t h = p.divide_row.divide(in_image, w);
    return channel < channels &&
           tile::residual_pixel(p.residual_view, n, static_cast<int32_t>(h), static_cast<int32_t>(w), pixel);
  }

  // `values` become what was stored.
  static RK_DEVICE void store(Element* first, int count, float (&values)[kWidth]) {
    RK_UNROLL
    for (int i = 0; i < kWidth; i += Format::kPerChunk) {
      float chunk[Format::kPerChunk];
      RK_UNROLL
      for (int e = 0; e < Format::kPerChunk; ++e) chunk[e] = values[i + e];
      tile::store_chunk<Format, kVector>(first + i, count - i, chunk);
      RK_UNROLL
      for (int e = 0; e < Format::kPerChunk; ++e) values[i + e] = chunk[e];
    }
  }

  static RK_DEVICE void store_mask(const Params& p, int64_t pixel, int32_t channel,
                                   const float (&values)[kWidth]) {
    const int32_t count = p.channels - channel;
    const uint32_t byte = tile::passing(values) & (count < kWidth ? (1u << count) - 1u : 0xffu);
    uint8_t* bytes = p.mask + pixel * mask_bytes(p.channels);
    ptx::st_global(bytes + channel / 8, static_cast<uint8_t>(byte));
    if (channel + kWidth < p.channels) return;
    for (int32_t i = channel / 8 + 1; i < mask_bytes(p.channels); ++i) ptx::st_global(bytes + i, uint8_t{0});
  }

  // Threads form a rectangle: groups of channels fastest, then pixels. Those that do not fill a whole row
  // stay idle.
  static RK_DEVICE void run(const Params& p) {
    const int64_t threads = int64_t{ptx::nctaid_x()} * kThreads;
    const int64_t thread = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    const int64_t pixels_at_once = threads / p.columns;
    const auto channel = static_cast<int32_t>(thread % p.columns) * kWidth;
    const int64_t first_pixel = thread / p.columns;
    if (first_pixel >= pixels_at_once) return;
    const int32_t count = p.channels - channel;

    tile::ChannelAffine<kWidth> affine;
    affine.load(p.affine, channel, p.channels);
    [[maybe_unused]] tile::ChannelAffine<kNormedResidual ? kWidth : 1> residual_affine;
    if constexpr (kNormedResidual) residual_affine.load(p.residual_affine, channel, p.channels);

    for (int64_t pixel = first_pixel; pixel < p.pixels; pixel += pixels_at_once) {
      const int64_t offset = pixel * p.channels + channel;
      float values[kWidth];
      load(p.x + offset, count, values);
      RK_UNROLL
      for (int e = 0; e < kWidth; ++e) values[e] = affine.apply(values[e], e);
      if (p.residual != nullptr) {
        int64_t from = pixel;
        int32_t channels = p.channels;
        if (find_residual(p, channel, from, channels)) {
          float skip[kWidth];
          load(p.residual + from * channels + channel, channels - channel, skip);
          RK_UNROLL
          for (int e = 0; e < kWidth; ++e) {
            if constexpr (kNormedResidual) skip[e] = residual_affine.apply(skip[e], e);
            values[e] += skip[e];
          }
        }
      }
      if (p.relu) {
        RK_UNROLL
        for (int e = 0; e < kWidth; ++e) values[e] = tile::relu(values[e]);
      }
      store(p.y + offset, count, values);
      if constexpr (kMask) store_mask(p, pixel, channel, values);
    }
  }
};

template <class Format, bool kVector, bool kMask, bool kNormedResidual>
void launch(const BnApply& problem) {
  using Kernel = BnApplyKernel<Format, kVector, kMask, kNormedResidual>;
  using Element = typename Format::Element;
  const int64_t columns = (problem.channels + Kernel::kWidth - 1) / Kernel::kWidth;
  // At least one row of threads, at most eight full blocks an SM: beyond that the loop is cheaper than more
  // blocks.
  const int64_t pixels = problem.n * problem.h * problem.w;
  const int64_t wanted = (pixels * columns + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t one_row = (columns + Kernel::kThreads - 1) / Kernel::kThreads;
  const int64_t blocks = std::max(one_row, std::min<int64_t>(wanted, 8 * machine::sm_count()));
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(blocks)}, .block = Kernel::kThreads, .stream = problem.stream},
      {.x = static_cast<const Element*>(problem.x),
       .residual = static_cast<const Element*>(problem.normalise.residual),
       .y = static_cast<Element*>(problem.y),
       .mask = reinterpret_cast<uint8_t*>(problem.mask),
       .affine = problem.normalise.affine,
       .residual_affine = problem.normalise.residual_affine,
       .residual_view = problem.normalise.residual_view,
       .divide_image = tile::Divisor(static_cast<uint32_t>(problem.h * problem.w)),
       .divide_row = tile::Divisor(static_cast<uint32_t>(problem.w)),
       .pixels = pixels,
       .images = problem.n,
       .channels = static_cast<int32_t>(problem.channels),
       .columns = static_cast<int32_t>(columns),
       .relu = problem.normalise.relu});
}

template <class Format, bool kVector, bool kMask>
void launch(const BnApply& problem) {
  problem.normalise.residual_affine.mean == nullptr ? launch<Format, kVector, kMask, false>(problem)
                                                    : launch<Format, kVector, kMask, true>(problem);
}

template <class Format>
void launch(const BnApply& problem, bool vector) {
  if (problem.mask == nullptr) {
    vector ? launch<Format, true, false>(problem) : launch<Format, false, false>(problem);
  } else {
    // A thread takes a whole byte of the mask, which is two chunks of float32, of the residual too.
    vector = vector && problem.channels % 8 == 0 && problem.normalise.residual_view.channels % 8 == 0;
    vector ? launch<Format, true, true>(problem) : launch<Format, false, true>(problem);
  }
}

}  // namespace

void launch_bn_apply(const BnApply& problem, bool vector) {
  switch (problem.dtype) {
    case DType::bf16: return launch<tile::Bf16>(problem, vector);
    case DType::f16: return launch<tile::F16>(problem, vector);
    case DType::f32: return launch<tile::F32>(problem, vector);
  }
  throw std::runtime_error("bn_apply: unknown dtype");
}

}  // namespace rk::sm80
