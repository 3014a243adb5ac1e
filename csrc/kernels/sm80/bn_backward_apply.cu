// The gradient through BatchNorm, elementwise over [pixels, channels]:
//
//   dx = round(scale rstd (h - sum h / M - (x - mean) rstd^2 sum(h (x - mean)) / M))       batch statistics
//   dx = round(scale rstd h)                                                               fixed statistics
//   dscale = sum(h (x - mean)) rstd,  dshift = sum h                                       of this rank's
//   pixels
//
// with rstd = 1 / sqrt(var + eps) and M the pixels that the statistics cover, over all ranks (Ioffe and
// Szegedy 2015, section 3). The coefficients are folded per thread and the gradients of scale and shift
// written by the threads of the first pixels, so nothing else is launched. Bytes: h and x read once, dx
// written once.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/global.h>
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
struct BnBackwardApplyKernel {
  using Element = typename Format::Element;
  static constexpr int kPerChunk = Format::kPerChunk;

  struct Params {
    const Element* h;
    const Element* x;
    Element* dx;
    const float* scale;
    const float* mean;
    const float* var;
    const float* sums;        // [2, channels], over all ranks
    const float* local_sums;  // [2, channels], of this rank
    float* dscale;
    float* dshift;
    float eps;
    float pixels_of_statistics;
    bool batch_statistics;
    int64_t pixels;
    int32_t channels;
    int32_t chunks;
  };

  static constexpr auto kNameParts = tile::join_names("bn_backward_apply", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 3;

  static std::array<machine::Span, 10> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = p.pixels * p.channels * static_cast<int64_t>(sizeof(Element));
    const int64_t vector_bytes = int64_t{p.channels} * 4;
    const float* other_sums = p.sums == p.local_sums ? nullptr : p.local_sums;
    return {{{p.h, bytes, Role::activation, "h"},
             {p.x, bytes, Role::activation, "x"},
             {p.dx, bytes, Role::output, "dx"},
             {p.scale, vector_bytes, Role::vector, "scale"},
             {p.mean, vector_bytes, Role::vector, "mean"},
             {p.var, vector_bytes, Role::vector, "var"},
             {p.sums, 2 * vector_bytes, Role::vector, "sums"},
             {other_sums, 2 * vector_bytes, Role::vector, "local_sums"},
             {p.dscale, vector_bytes, Role::output, "dscale"},
             {p.dshift, vector_bytes, Role::output, "dshift"}}};
  }

  // dx = slope (h - offset - (x - mean) tilt)
  struct Coefficients {
    float slope[kPerChunk], offset[kPerChunk], mean[kPerChunk], tilt[kPerChunk];
  };

  static RK_DEVICE Coefficients coefficients(const Params& p, int32_t first, bool write_gradients) {
    float var[kPerChunk], scale[kPerChunk], sum[kPerChunk], tilted[kPerChunk];
    tile::load_vector(p.var, first, p.channels, 1.f, var);
    tile::load_vector(p.scale, first, p.channels, 1.f, scale);
    tile::load_vector(p.batch_statistics ? p.sums : nullptr, first, p.channels, 0.f, sum);
    tile::load_vector(p.batch_statistics ? p.sums + p.channels : nullptr, first, p.channels, 0.f, tilted);
    Coefficients result;
    tile::load_vector(p.mean, first, p.channels, 0.f, result.mean);
    RK_UNROLL
    for (int e = 0; e < kPerChunk; ++e) {
      const float rstd = 1.f / sqrtf(var[e] + p.eps);
      result.slope[e] = scale[e] * rstd;
      result.offset[e] = sum[e] / p.pixels_of_statistics;
      result.tilt[e] = tilted[e] / p.pixels_of_statistics * rstd * rstd;
      const int32_t channel = first + e;
      if (write_gradients && channel < p.channels) {
        ptx::st_global(p.dshift + channel, ptx::ld_global_nc(p.local_sums + channel));
        ptx::st_global(p.dscale + channel, ptx::ld_global_nc(p.local_sums + p.channels + channel) * rstd);
      }
    }
    return result;
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
    const Coefficients c = coefficients(p, channel, first_pixel == 0);

    for (int64_t pixel = first_pixel; pixel < p.pixels; pixel += pixels_at_once) {
      const int64_t offset = pixel * p.channels + channel;
      float h[kPerChunk], x[kPerChunk];
      tile::load_chunk<Format, kVector>(p.h + offset, count, h);
      if (p.batch_statistics) {
        tile::load_chunk<Format, kVector>(p.x + offset, count, x);
        RK_UNROLL
        for (int e = 0; e < kPerChunk; ++e) h[e] = h[e] - c.offset[e] - (x[e] - c.mean[e]) * c.tilt[e];
      }
      RK_UNROLL
      for (int e = 0; e < kPerChunk; ++e) h[e] *= c.slope[e];
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
      {.h = static_cast<const Element*>(problem.h),
       .x = static_cast<const Element*>(problem.x),
       .dx = static_cast<Element*>(problem.dx),
       .scale = problem.scale,
       .mean = problem.mean,
       .var = problem.var,
       .sums = problem.sums,
       .local_sums = problem.local_sums,
       .dscale = problem.dscale,
       .dshift = problem.dshift,
       .eps = problem.eps,
       .pixels_of_statistics = static_cast<float>(problem.count),
       .batch_statistics = problem.batch_statistics,
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
