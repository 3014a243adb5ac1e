#include "benchmark.h"

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/mbarrier.h>
#include <ptx/mma.h>
#include <ptx/shared.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include <array>
#include <ctime>
#include <vector>

#include "engine/pool.h"

namespace rk::sim {
namespace {

using machine::Role;

struct Syncs {
  struct Params {
    int count;
  };
  static constexpr const char* kName = "benchmark_syncs";
  static std::array<Span, 0> spans(const Params&) { return {}; }
  static void run(const Params& p) {
    for (int i = 0; i < p.count; ++i) ptx::warp_sync();
  }
};

// c[m, n] = a[m, k] b[n, k]^T; m and n are multiples of 128, k of 64.
struct Gemm {
  struct Params {
    const uint16_t *a, *b;
    float* c;
    int m, n, k;
  };
  static constexpr const char* kName = "benchmark_gemm";
  static constexpr int kStages = 3;
  static constexpr uint32_t kTileBytes = 128 * 64 * 2;

  static std::array<Span, 3> spans(const Params& p) {
    return {{{p.a, int64_t{p.m} * p.k * 2, Role::activation, "a"},
             {p.b, int64_t{p.n} * p.k * 2, Role::weight, "b"},
             {p.c, int64_t{p.m} * p.n * 4, Role::output, "c"}}};
  }

  static uint32_t swizzled(uint32_t row, uint32_t chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x(), lane = ptx::lane_id(), warp = ptx::warp_id();
    const uint32_t row0 = ptx::ctaid_y() * 128, column0 = ptx::ctaid_x() * 128;
    const uint32_t warp_row = warp / 2 * 64, warp_column = warp % 2 * 64;
    const auto tile_a = [](int stage) {
      return ptx::smem_base() + static_cast<uint32_t>(stage) * 2 * kTileBytes;
    };
    const auto tile_b = [&](int stage) { return tile_a(stage) + kTileBytes; };
    const int steps = p.k / 64;
    const auto load = [&](int step) {
      for (uint32_t i = tid; step < steps && i < 128 * 8; i += 128) {
        const uint32_t row = i / 8, chunk = i % 8;
        const int64_t offset = step * 64 + chunk * 8;
        ptx::cp_async<16>(tile_a(step % kStages) + swizzled(row, chunk),
                          p.a + int64_t{row0 + row} * p.k + offset, 16);
        ptx::cp_async<16>(tile_b(step % kStages) + swizzled(row, chunk),
                          p.b + int64_t{column0 + row} * p.k + offset, 16);
      }
      ptx::cp_async_commit();
    };
    float acc[4][8][4] = {};
    load(0);
    load(1);
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<1>();
      ptx::barrier_sync();
      load(step + 2);
      for (uint32_t kk = 0; kk < 4; ++kk) {
        uint32_t a[4][4], b[8][2];
        for (uint32_t i = 0; i < 4; ++i) {
          const uint32_t row = warp_row + 16 * i + lane % 16;
          ptx::ldmatrix_x4(a[i], tile_a(step % kStages) + swizzled(row, 2 * kk + lane / 16));
        }
        for (uint32_t j = 0; j < 8; ++j) {
          const uint32_t row = warp_column + 8 * j + lane % 8;
          ptx::ldmatrix_x2(b[j], tile_b(step % kStages) + swizzled(row, 2 * kk + lane / 8 % 2));
        }
        for (int i = 0; i < 4; ++i) {
          for (int j = 0; j < 8; ++j) ptx::mma_m16n8k16_bf16(acc[i][j], a[i], b[j]);
        }
      }
    }
    for (uint32_t i = 0; i < 4; ++i) {
      for (uint32_t j = 0; j < 8; ++j) {
        for (uint32_t e = 0; e < 4; ++e) {
          const uint32_t row = row0 + warp_row + 16 * i + lane / 4 + 8 * (e / 2);
          const uint32_t column = column0 + warp_column + 8 * j + 2 * (lane % 4) + e % 2;
          ptx::st_global(p.c + int64_t{row} * p.n + column, acc[i][j][e]);
        }
      }
    }
  }
};

// The same with the instructions of sm_90: tiles of 128 x 256 by tensor copies and wgmma, two warpgroups of
// 64 rows, one stage.
struct Wgmma {
  struct Params {
    machine::TensorMap a, b;
    const uint16_t *a_data, *b_data;
    float* c;
    int m, n, k;
  };
  static constexpr const char* kName = "benchmark_wgmma";
  static constexpr uint32_t kTileA = 128 * 128, kTileB = 256 * 128;
  static constexpr machine::Swizzle kSwizzle = machine::Swizzle::span128;

  static machine::TensorMap map(const uint16_t* data, int rows, int k, uint32_t box) {
    return machine::encode({.type = machine::ElementType::bf16,
                            .rank = 2,
                            .data = data,
                            .extent = {static_cast<uint64_t>(k), static_cast<uint64_t>(rows)},
                            .stride = {2 * static_cast<uint64_t>(k)},
                            .box = {64, box},
                            .element_stride = {1, 1},
                            .swizzle = kSwizzle});
  }

  static std::array<Span, 3> spans(const Params& p) {
    return {{{p.a_data, int64_t{p.m} * p.k * 2, Role::activation, "a"},
             {p.b_data, int64_t{p.n} * p.k * 2, Role::weight, "b"},
             {p.c, int64_t{p.m} * p.n * 4, Role::output, "c"}}};
  }

  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x(), tile_a = ptx::smem_base(), tile_b = tile_a + kTileA;
    const uint32_t full = tile_b + kTileB;
    const auto row0 = static_cast<int32_t>(ptx::ctaid_y() * 128);
    const auto column0 = static_cast<int32_t>(ptx::ctaid_x() * 256);
    if (tid == 0) {
      ptx::mbarrier_init(full, 1);
      ptx::fence_mbarrier_init();
    }
    ptx::barrier_sync();
    ptx::WgmmaAccumulator<256> d;
    for (int k = 0; k < p.k; k += 64) {
      if (tid == 0) {
        ptx::mbarrier_arrive_expect_tx(full, kTileA + kTileB);
        ptx::tma_load(tile_a, p.a, full, {k, row0});
        ptx::tma_load(tile_b, p.b, full, {k, column0});
      }
      ptx::mbarrier_wait(full, k / 64 & 1);
      ptx::wgmma_fence(d);
      for (uint32_t i = 0; i < 4; ++i) {
        ptx::wgmma_ss<ptx::MatrixType::bf16, ptx::Major::k, ptx::Major::k>(
            d, machine::matrix_descriptor(kSwizzle, tile_a + tid / 128 * 8192 + 32 * i, 0, 1024),
            machine::matrix_descriptor(kSwizzle, tile_b + 32 * i, 0, 1024), k != 0 || i != 0);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>(d);
      ptx::barrier_sync();
    }
    float sum = 0;
    for (int i = 0; i < d.kCount; ++i) sum += d.get(i);
    ptx::st_global(p.c + (int64_t{row0} * p.n + column0) / 128 + tid, sum);
  }
};

// Each thread: eight sums of count products, both factors from shared memory.
struct Fmas {
  struct Params {
    float* out;
    uint32_t count;
  };
  static constexpr const char* kName = "benchmark_fmas";
  static std::array<Span, 1> spans(const Params& p) { return {{{p.out, 128 * 4, Role::output, "out"}}}; }
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    ptx::st_shared(ptx::smem_base() + 16 * tid, Words4{{1, 2, 3, 4}});
    ptx::barrier_sync();
    float sum[8] = {};
    for (uint32_t i = 0; i < p.count; ++i) {
      const Words4 words = ptx::ld_shared<Words4>(ptx::smem_base() + 16 * ((tid + i) % 128));
      for (uint32_t j = 0; j < 8; ++j) {
        sum[j] = ptx::fma(static_cast<float>(words.word[j % 4]), static_cast<float>(j), sum[j]);
      }
    }
    float total = 0;
    for (const float s : sum) total += s;
    ptx::st_global(p.out + tid, total);
  }
};

struct Copy {
  struct Params {
    const Words4* in;
    Words4* out;
    uint32_t count;
  };
  static constexpr const char* kName = "benchmark_copy";
  static std::array<Span, 2> spans(const Params& p) {
    return {{{p.in, int64_t{p.count} * 16, Role::activation, "in"},
             {p.out, int64_t{p.count} * 16, Role::output, "out"}}};
  }
  static void run(const Params& p) {
    const uint32_t first = ptx::ctaid_x() * ptx::ntid_x() + ptx::tid_x();
    for (uint32_t i = first; i < p.count; i += ptx::nctaid_x() * ptx::ntid_x()) {
      ptx::st_global(p.out + i, ptx::ld_global_nc(p.in + i));
    }
  }
};

// Seconds of processor time that one launch takes, after one to warm up; launches until half a second has
// gone.
template <class Kernel>
double seconds(const machine::LaunchConfig& config, const typename Kernel::Params& params) {
  machine::launch<Kernel>(config, params);
  const std::clock_t begin = std::clock();
  int launches = 0;
  double total = 0;
  do {
    machine::launch<Kernel>(config, params);
    ++launches;
    total = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  } while (total < 0.5);
  return total / launches;
}

}  // namespace

Benchmark benchmark() {
  const uint32_t before = workers();
  set_workers(1);
  Benchmark result = {};

  constexpr int kSyncs = 20000;
  result.switch_ns = seconds<Syncs>({.block = 128}, {kSyncs}) / (kSyncs * 128.0) * 1e9;

  constexpr int kM = 256, kN = 256, kK = 1024;
  const std::vector<uint16_t> a(kM * kK, 0x3f80), b(kN * kK, 0x3f80);
  std::vector<float> c(kM * kN);
  result.mma_gflops =
      2e-9 * kM * kN * kK /
      seconds<Gemm>(
          {.grid = {kN / 128, kM / 128, 1}, .block = 128, .smem = Gemm::kStages * 2 * Gemm::kTileBytes},
          {a.data(), b.data(), c.data(), kM, kN, kK});

  const Wgmma::Params wgmma = {Wgmma::map(a.data(), kM, kK, 128),
                               Wgmma::map(b.data(), kN, kK, 256),
                               a.data(),
                               b.data(),
                               c.data(),
                               kM,
                               kN,
                               kK};
  result.wgmma_gflops =
      2e-9 * kM * kN * kK /
      seconds<Wgmma>(
          {.grid = {kN / 256, kM / 128, 1}, .block = 256, .smem = Wgmma::kTileA + Wgmma::kTileB + 8}, wgmma);

  constexpr uint32_t kFmas = 4000;
  result.fma_gflops = 2e-9 * 8 * kFmas * 128 / seconds<Fmas>({.block = 128, .smem = 2048}, {c.data(), kFmas});

  constexpr uint32_t kWords = 1u << 16;
  const std::vector<Words4> in(kWords);
  std::vector<Words4> out(kWords);
  result.copy_gbytes =
      2e-9 * kWords * 16 / seconds<Copy>({.grid = {64, 1, 1}, .block = 256}, {in.data(), out.data(), kWords});

  set_workers(before);
  return result;
}

}  // namespace rk::sim
