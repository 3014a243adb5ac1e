// How fast wgmma multiplies operands that lie in shared memory: a convolution's consumers without the copies.
//
// A block a multiprocessor. Two warpgroups multiply 64 rows of a each with all of b, m64n256, over a depth of
// one 128-byte row: four steps, 64 elements of bfloat16 or 32 of TF32. They add the same product to their
// accumulators again and again; nothing moves until they are written.
//
//   products[block, 128, 256] = repeats * a [128, depth] b [256, depth]^T
//
// FLOPs: 2 * blocks * repeats * 128 * 256 * depth. Bytes: 48 KB read and 128 KB written by each block.
#include <array>
#include <bit>
#include <cstdint>
#include <stdexcept>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include "kernels/sm90/launchers.h"
#include "machine/launch_config.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/warpgroup_product.h"
#include "tile/swizzle.h"

namespace rk::sm90 {
namespace {

template <machine::MatrixType kType>
struct MatrixRateKernel {
  static constexpr uint32_t kM = kMatrixCeilingRows, kN = kMatrixCeilingColumns;
  using Product = tile::WarpgroupProduct<kType, 1, kN, machine::Major::k>;

  struct Params {
    machine::TensorMap a, b;
    MatrixCeiling problem;
  };
  static constexpr const char* kName =
      kType == machine::MatrixType::tf32 ? "matrix ceiling tf32" : "matrix ceiling bf16";
  static constexpr uint32_t kThreads = tile::kConsumers * 128;
  static constexpr uint32_t kMinBlocks = 1;
  static_assert(kM == tile::kConsumers * 64, "m of wgmma is 64");
  static_assert(kMatrixCeilingRowBytes == tile::kRowBytes, "a stage of depth");

  static constexpr uint32_t kBytesA = kM * tile::kRowBytes;
  static constexpr uint32_t kBytesB = kN * tile::kRowBytes;
  static constexpr uint32_t kFullAt = kBytesA + kBytesB;  // an mbarrier
  static constexpr uint32_t kSmem = kFullAt + 8;

  static std::array<machine::Span, 3> spans(const Params& p) {
    using machine::Role;
    return {{{p.problem.a, kBytesA, Role::activation, "a"},
             {p.problem.b, kBytesB, Role::weight, "b"},
             {p.problem.products, p.problem.blocks * kM * kN * 4, Role::output, "products"}}};
  }

  static RK_DEVICE void load(const Params& p, uint32_t a, uint32_t b, uint32_t full) {
    if (ptx::tid_x() == 0) {
      ptx::mbarrier_init(full, 1);
      ptx::fence_mbarrier_init();
      ptx::mbarrier_arrive_expect_tx(full, kBytesA + kBytesB);
      ptx::tma_load(a, p.a, full, {0, 0});
      ptx::tma_load(b, p.b, full, {0, 0});
    }
    ptx::barrier_sync();
    ptx::mbarrier_wait(full, 0);
  }

  static RK_DEVICE void store(const Params& p, const Product& product, uint32_t warpgroup) {
    const uint32_t lane = ptx::lane_id();
    const uint32_t row = warpgroup * 64 + tile::warp_of_consumer() * 16 + lane / 4;
    float* const first =
        p.problem.products + (int64_t{ptx::ctaid_x()} * kM + row) * kN + static_cast<int32_t>(lane % 4 * 2);
    const typename Product::Accumulator& sums = product.block(0);
    RK_UNROLL
    for (int i = 0; i < Product::Accumulator::kCount; i += 2) {  // pairs: (row, 8j), (row + 8, 8j)
      const Words2 pair = {{std::bit_cast<uint32_t>(sums.get(i)), std::bit_cast<uint32_t>(sums.get(i + 1))}};
      ptx::st_global(reinterpret_cast<Words2*>(first + i / 2 % 2 * 8 * int{kN} + i / 4 * 8), pair);
    }
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t a = ptx::smem_base(), b = a + kBytesA;
    load(p, a, b, a + kFullAt);
    const uint32_t warpgroup = ptx::shfl_idx(ptx::warp_id() / 4, 0);  // the compiler sees that it is one
    Product product;
    for (int64_t i = 0; i < p.problem.repeats; ++i) {
      product.start(a + warpgroup * 64 * tile::kRowBytes, b);
      ptx::wgmma_wait<1>();  // one is on its way and one behind it
    }
    product.wait();
    store(p, product, warpgroup);
  }
};

// TMA copies bytes: an operand's row is 64 sixteen-bit elements to it, whatever they are.
machine::TensorMap operand_map(const void* data, uint32_t rows) {
  return tile::matrix_map(machine::ElementType::bf16, data, rows, tile::kBoxChannels, rows);
}

template <machine::MatrixType kType>
void launch_matrix_rate_in(const MatrixCeiling& problem) {
  using Kernel = MatrixRateKernel<kType>;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>(problem.blocks)},
       .block = Kernel::kThreads,
       .smem = Kernel::kSmem,
       .stream = problem.stream},
      {.a = operand_map(problem.a, Kernel::kM), .b = operand_map(problem.b, Kernel::kN), .problem = problem});
}

}  // namespace

void launch_matrix_rate(const MatrixCeiling& problem) {
  switch (problem.dtype) {
    case DType::bf16: return launch_matrix_rate_in<machine::MatrixType::bf16>(problem);
    case DType::f32: return launch_matrix_rate_in<machine::MatrixType::tf32>(problem);
    case DType::f16: break;
  }
  throw std::runtime_error("matrix_ceiling: a and b are bfloat16, or float32 taken as TF32");
}

}  // namespace rk::sm90
