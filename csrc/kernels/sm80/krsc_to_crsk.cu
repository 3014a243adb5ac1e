// w'[c, r, s, k] = w[k, r, s, c]: filters as backward-data convolution multiplies them, its depth fastest.
//
// One block transposes 32 x 32 elements of one tap through shared memory, both sides coalesced. Bytes:
// weights once each way, by count about 0.15 % of a training step's traffic for ResNet-50 at batch 256; in
// return dgrad is the same kernel as fprop in every dtype.
#include <array>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/shared.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"

namespace rk::sm80 {
namespace {

template <class Element>
struct KrscToCrskKernel {
  struct Params {
    const Element* weight;
    Element* transposed;
    int32_t k, taps, c;
  };

  static constexpr const char* kName = "krsc_to_crsk";
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;
  static constexpr uint32_t kTile = 32;
  static constexpr uint32_t kRowsAtOnce = kThreads / kTile;
  static constexpr uint32_t kPitch = kTile + 1;  // words: columns of the tile lie in different banks
  static constexpr uint32_t kSmem = kTile * kPitch * 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = int64_t{p.k} * p.taps * p.c * static_cast<int64_t>(sizeof(Element));
    return {{{p.weight, bytes, Role::weight, "weight"}, {p.transposed, bytes, Role::output, "transposed"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t tap = ptx::ctaid_z();
    const uint32_t first_c = ptx::ctaid_x() * kTile;
    const uint32_t first_k = ptx::ctaid_y() * kTile;
    const uint32_t column = ptx::tid_x() % kTile;
    const uint32_t row = ptx::tid_x() / kTile;
    const auto taps = static_cast<uint32_t>(p.taps);
    const auto channels = static_cast<uint32_t>(p.c);
    const auto filters = static_cast<uint32_t>(p.k);

    for (uint32_t i = row; i < kTile; i += kRowsAtOnce) {
      const uint32_t k = first_k + i;
      const uint32_t c = first_c + column;
      if (k >= filters || c >= channels) continue;
      const uint32_t word = ptx::ld_global_nc(p.weight + (int64_t{k} * taps + tap) * channels + c);
      ptx::st_shared(ptx::smem_base() + (i * kPitch + column) * 4, word);
    }
    ptx::barrier_sync();
    for (uint32_t i = row; i < kTile; i += kRowsAtOnce) {
      const uint32_t c = first_c + i;
      const uint32_t k = first_k + column;
      if (k >= filters || c >= channels) continue;
      const auto word = ptx::ld_shared<uint32_t>(ptx::smem_base() + (column * kPitch + i) * 4);
      ptx::st_global(p.transposed + (int64_t{c} * taps + tap) * filters + k, static_cast<Element>(word));
    }
  }
};

template <class Element>
void launch(const ConvShape& shape, const void* weight, void* transposed, Stream stream) {
  using Kernel = KrscToCrskKernel<Element>;
  constexpr int64_t kTile = Kernel::kTile;
  machine::launch<Kernel>({.grid = {.x = static_cast<uint32_t>((shape.c + kTile - 1) / kTile),
                                    .y = static_cast<uint32_t>((shape.k + kTile - 1) / kTile),
                                    .z = static_cast<uint32_t>(shape.r * shape.s)},
                           .block = Kernel::kThreads,
                           .smem = Kernel::kSmem,
                           .stream = stream},
                          {.weight = static_cast<const Element*>(weight),
                           .transposed = static_cast<Element*>(transposed),
                           .k = static_cast<int32_t>(shape.k),
                           .taps = static_cast<int32_t>(shape.r * shape.s),
                           .c = static_cast<int32_t>(shape.c)});
}

}  // namespace

void launch_krsc_to_crsk(const ConvShape& shape, DType dtype, const void* weight, void* transposed,
                         Stream stream) {
  switch (dtype) {
    case DType::bf16:
    case DType::f16: return launch<uint16_t>(shape, weight, transposed, stream);
    case DType::f32: return launch<uint32_t>(shape, weight, transposed, stream);
  }
  throw std::runtime_error("krsc_to_crsk: unknown dtype");
}

}  // namespace rk::sm80
