// y[row, 0 .. chunk - 1] = x[row, 0 .. c - 1], 0, ...: rows of fewer channels than a 16-byte chunk holds
// become whole chunks.
//
// Images and filters of three channels then take convolution's 16-byte path. That multiplies 8 / 3 as much (4
// / 3 in float32) as needed, and is still far less work than gathering single elements for every tap. Bytes:
// x once, y once.
#include <array>
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
struct PadChannelsKernel {
  using Element = typename Format::Element;

  struct Params {
    const Element* x;
    Words4* y;
    int64_t rows;
    int32_t c;
  };

  static constexpr auto kNameParts = tile::join_names("pad_channels", Format::kName);
  static constexpr const char* kName = kNameParts.data();
  static constexpr uint32_t kThreads = 256;
  static constexpr uint32_t kMinBlocks = 4;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.x, p.rows * p.c * static_cast<int64_t>(sizeof(Element)), Role::activation, "x"},
             {p.y, p.rows * 16, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const int64_t row = int64_t{ptx::ctaid_x()} * kThreads + ptx::tid_x();
    if (row >= p.rows) return;
    Element elements[Format::kPerChunk];
    RK_UNROLL
    for (int e = 0; e < Format::kPerChunk; ++e) {
      elements[e] = e < p.c ? ptx::ld_global_nc(p.x + row * p.c + e) : Element{0};
    }
    ptx::st_global(p.y + row, tile::assemble<Format>(elements));
  }
};

template <class Format>
void launch(int64_t rows, int64_t c, const void* x, void* y, Stream stream) {
  using Kernel = PadChannelsKernel<Format>;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((rows + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = stream},
      {.x = static_cast<const typename Format::Element*>(x),
       .y = static_cast<Words4*>(y),
       .rows = rows,
       .c = static_cast<int32_t>(c)});
}

}  // namespace

void launch_pad_channels(DType dtype, int64_t rows, int64_t c, const void* x, void* y, Stream stream) {
  switch (dtype) {
    case DType::bf16: return launch<tile::Bf16>(rows, c, x, y, stream);
    case DType::f16: return launch<tile::F16>(rows, c, x, y, stream);
    case DType::f32: return launch<tile::F32>(rows, c, x, y, stream);
  }
  throw std::runtime_error("pad_channels: unknown dtype");
}

}  // namespace rk::sm80
