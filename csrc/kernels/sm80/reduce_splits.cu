// dw = round(sum over splits of partials[split, element]), added in the order of the splits.
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
    const float* partials;  // [splits, elements]
    Element* dw;
    int64_t splits, elements;
  };

  static constexpr auto kNameParts = tile::join_names("reduce_splits", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.partials, p.splits * p.elements * 4, Role::activation, "partials"},
             {p.dw, p.elements * static_cast<int64_t>(sizeof(Element)), Role::output, "dw"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const int64_t element = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    if (element >= p.elements) return;
    float sum = 0.f;
    for (int64_t split = 0; split < p.splits; ++split)
      sum += ptx::ld_global_nc(p.partials + split * p.elements + element);
    ptx::st_global(p.dw + element, tile::from_float<Format>(sum));
  }
};

template <class Format>
void launch(const float* partials, int64_t splits, int64_t elements, void* dw, Stream stream) {
  using Kernel = ReduceSplitsKernel<Format>;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((elements + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = stream},
      {.partials = partials,
       .dw = static_cast<typename Format::Element*>(dw),
       .splits = splits,
       .elements = elements});
}

}  // namespace

void launch_reduce_splits(const float* partials, int64_t splits, int64_t elements, DType dtype, void* dw,
                          Stream stream) {
  switch (dtype) {
    case DType::bf16: return launch<tile::Bf16>(partials, splits, elements, dw, stream);
    case DType::f16: return launch<tile::F16>(partials, splits, elements, dw, stream);
    case DType::f32: return launch<tile::F32>(partials, splits, elements, dw, stream);
  }
  throw std::runtime_error("reduce_splits: unknown dtype");
}

}  // namespace rk::sm80
