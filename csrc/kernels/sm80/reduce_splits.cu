// dw[row, c] = round(sum over splits of partials[split, row, c]), added in the order of the splits; columns
// of partials past dw's channels are padding.
//
// Bytes: every partial once, dw once.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"
#include "tile/format.h"
#include "tile/name.h"

namespace rk::sm80 {
namespace {

template <class Format>
struct ReduceSplitsKernel {
  using Element = typename Format::Element;

  struct Params {
    const float* partials;  // [splits, rows, padded]
    Element* dw;            // [rows, channels]
    int64_t splits, rows, padded, channels;
  };

  static constexpr auto kNameParts = tile::join_names("reduce_splits", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.partials, p.splits * p.rows * p.padded * 4, Role::activation, "partials"},
             {p.dw, p.rows * p.channels * static_cast<int64_t>(sizeof(Element)), Role::output, "dw"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const int64_t element = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    if (element >= p.rows * p.channels) return;
    const float* partial = p.partials + element / p.channels * p.padded + element % p.channels;
    float sum = 0.f;
    for (int64_t split = 0; split < p.splits; ++split) {
      sum += ptx::ld_global_nc(partial + split * p.rows * p.padded);
    }
    ptx::st_global(p.dw + element, tile::from_float<Format>(sum));
  }
};

template <class Format>
void launch(const SplitReduction& reduction) {
  using Kernel = ReduceSplitsKernel<Format>;
  const int64_t elements = reduction.rows * reduction.channels;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((elements + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = reduction.stream},
      {.partials = reduction.partials,
       .dw = static_cast<typename Format::Element*>(reduction.dw),
       .splits = reduction.splits,
       .rows = reduction.rows,
       .padded = reduction.padded,
       .channels = reduction.channels});
}

}  // namespace

void launch_reduce_splits(const SplitReduction& reduction) {
  switch (reduction.dtype) {
    case DType::bf16: return launch<tile::Bf16>(reduction);
    case DType::f16: return launch<tile::F16>(reduction);
    case DType::f32: return launch<tile::F32>(reduction);
  }
  throw std::runtime_error("reduce_splits: unknown dtype");
}

}  // namespace rk::sm80
