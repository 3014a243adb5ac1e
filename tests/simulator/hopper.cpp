// Test kernels of sm_90: a right one whose every wait, fence and arrival tests leave out, and ones with
// exactly one mistake each.
#include <ptx/barrier.h>
#include <ptx/bulk.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/griddepcontrol.h>
#include <ptx/math.h>
#include <ptx/mbarrier.h>
#include <ptx/setmaxnreg.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/tma.h>
#include <ptx/warp.h>
#include <ptx/wgmma.h>

#include "kernels.h"

namespace {

using namespace rk::test;
using rk::machine::ElementType;
using rk::machine::Swizzle;
using rk::machine::TensorMap;

constexpr Swizzle k128 = Swizzle::span128;

// A matrix of bf16 with `columns` in a row, in boxes of 64 x 64.
TensorMap matrix_map(const void* data, uint64_t columns, uint64_t rows) {
  return rk::machine::encode({.type = ElementType::bf16,
                              .rank = 2,
                              .data = data,
                              .extent = {columns, rows},
                              .stride = {2 * columns},
                              .box = {64, 64},
                              .element_stride = {1, 1},
                              .swizzle = k128});
}

// c[m, 64] = a[m, k] b[64, k]^T in bf16, k = 128. Persistent: block i takes the tiles of 64 rows i, i +
// blocks, ... A producer warp loads stages of 64 along k, a warpgroup multiplies and stores. In a cluster of
// two, each block loads one half of b for both.
template <bool kCluster>
struct Pipeline {
  struct Params {
    TensorMap a, b, c;
    Bytes bytes;
    uint32_t tiles;
  };
  static constexpr const char* kName = "pipeline";
  static constexpr uint32_t kK = 128, kStages = 2, kTile = 64 * 64 * 2, kConsumers = 128;
  static constexpr uint32_t kBlocks = kCluster ? 2 : 1;
  static constexpr uint32_t kPanel = 2 * kStages * kTile, kBarriers = kPanel + kTile;

  static std::array<Span, 3> spans(const Params& p) {
    const int64_t b = 64 * kK * 2;
    return {{{p.bytes.in, b, Role::weight, "b"},
             {p.bytes.in + b, p.bytes.in_bytes - b, Role::activation, "a"},
             {p.bytes.out, p.bytes.out_bytes, Role::output, "c"}}};
  }

  static uint32_t full(uint32_t stage) { return ptx::smem_base() + kBarriers + 16 * stage; }
  static uint32_t empty(uint32_t stage) { return full(stage) + 8; }
  static uint32_t tile_a(uint32_t stage) { return ptx::smem_base() + 2 * stage * kTile; }
  static uint32_t tile_b(uint32_t stage) { return tile_a(stage) + kTile; }

  static void run(const Params& p) {
    if (ptx::tid_x() == kConsumers) {
      for (uint32_t stage = 0; stage < kStages; ++stage) {
        ptx::mbarrier_init(full(stage), 1);
        ptx::mbarrier_init(empty(stage), 4 * kBlocks);  // a warp's arrival each
      }
      ptx::fence_mbarrier_init();
    }
    if constexpr (kCluster) {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    } else {
      ptx::barrier_sync();
    }
    ptx::griddep_wait();
    if (ptx::tid_x() >= kConsumers) {
      if (ptx::elect_one()) produce(p);
    } else {
      consume(p);
    }
    if constexpr (kCluster) {  // until the other block has loaded and released for the last time
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
  }

  static void produce(const Params& p) {
    uint32_t step = 0;
    for (uint32_t tile = ptx::ctaid_x(); tile < p.tiles; tile += ptx::nctaid_x()) {
      for (uint32_t k = 0; k < kK; k += 64, ++step) {
        const uint32_t stage = step % kStages;
        ptx::mbarrier_wait(empty(stage), (step / kStages & 1) ^ 1);
        ptx::mbarrier_arrive_expect_tx(full(stage), 2 * kTile);
        const auto column = static_cast<int32_t>(k);
        ptx::tma_load(tile_a(stage), p.a, full(stage), {column, static_cast<int32_t>(64 * tile)});
        if constexpr (kCluster) {
          const uint32_t half = 32 * ptx::cluster_rank();
          ptx::tma_load_multicast(tile_b(stage) + 128 * half, p.b, full(stage), 3,
                                  {column, static_cast<int32_t>(half)});
        } else {
          ptx::tma_load(tile_b(stage), p.b, full(stage), {column, 0});
        }
      }
    }
  }

  static void release(uint32_t stage) {
    if (ptx::lane_id() != 0) return;
    if constexpr (kCluster) {
      for (uint32_t rank = 0; rank < kBlocks; ++rank)
        ptx::mbarrier_arrive_cluster(ptx::mapa(empty(stage), rank));
    } else {
      ptx::mbarrier_arrive(empty(stage));
    }
  }

  static void consume(const Params& p) {
    uint32_t step = 0;
    for (uint32_t tile = ptx::ctaid_x(); tile < p.tiles; tile += ptx::nctaid_x()) {
      ptx::WgmmaAccumulator<64> d;
      for (uint32_t k = 0; k < kK; k += 64, ++step) {
        const uint32_t stage = step % kStages;
        ptx::mbarrier_wait(full(stage), step / kStages & 1);
        ptx::wgmma_fence(d);
        for (uint32_t i = 0; i < 4; ++i) {
          ptx::wgmma_ss<ptx::MatrixType::bf16, ptx::Major::k, ptx::Major::k>(
              d, rk::machine::matrix_descriptor(k128, tile_a(stage) + 32 * i, 0, 1024),
              rk::machine::matrix_descriptor(k128, tile_b(stage) + 32 * i, 0, 1024), (k | i) != 0);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>(d);
        release(stage);
      }
      const uint32_t warp = ptx::warp_id(), lane = ptx::lane_id(), panel = ptx::smem_base() + kPanel;
      const uint32_t row = 16 * warp + lane % 16;
      for (uint32_t chunk = 0; chunk < 8; chunk += 2) {
        const int j = static_cast<int>(4 * chunk);
        const uint32_t words[4] = {
            ptx::cvt_bf16x2(d.get(j), d.get(j + 1)), ptx::cvt_bf16x2(d.get(j + 2), d.get(j + 3)),
            ptx::cvt_bf16x2(d.get(j + 4), d.get(j + 5)), ptx::cvt_bf16x2(d.get(j + 6), d.get(j + 7))};
        ptx::stmatrix_x4(rk::machine::swizzled(k128, panel + 128 * row + 16 * (chunk + lane / 16)), words);
      }
      ptx::fence_proxy_async();
      ptx::barrier_sync<1>(kConsumers);
      if (ptx::tid_x() == 0) {
        ptx::tma_store(p.c, panel, {0, static_cast<int32_t>(64 * tile)});
        ptx::bulk_commit();
        ptx::bulk_wait_read<0>();
      }
      ptx::barrier_sync<1>(kConsumers);
    }
  }

  static void start(const LaunchConfig& config, const Bytes& bytes) {
    const uint8_t* const a = bytes.in + 64 * kK * 2;
    const uint64_t rows = static_cast<uint64_t>(bytes.out_bytes) / 128;
    TensorMap b = matrix_map(bytes.in, kK, 64);
    if (kCluster) {
      b = rk::machine::encode({.type = ElementType::bf16,
                               .rank = 2,
                               .data = bytes.in,
                               .extent = {kK, 64},
                               .stride = {2 * kK},
                               .box = {64, 32},
                               .element_stride = {1, 1},
                               .swizzle = k128});
    }
    rk::machine::launch<Pipeline>(config, {.a = matrix_map(a, kK, rows),
                                           .b = b,
                                           .c = matrix_map(bytes.out, 64, rows),
                                           .bytes = bytes,
                                           .tiles = static_cast<uint32_t>((rows + 63) / 64)});
  }
};

// ---- mistakes with mbarriers

uint32_t mbarrier() { return ptx::smem_base(); }
uint32_t data() { return ptx::smem_base() + 128; }

// One bulk load of 256 bytes, then a load by every thread. `number` is the mistake.
struct LoadMistakes : Kernel {
  static constexpr const char* kName = "load_mistakes";
  enum { none, too_many, too_few, parity, arrivals, misaligned, early_write, overwrite, reuse, no_wait };
  static void run(const Params& p) {
    if (ptx::tid_x() == 0) {
      ptx::mbarrier_init(mbarrier(), 1);
      ptx::fence_mbarrier_init();
    }
    if (p.number == early_write && ptx::tid_x() < 16) ptx::st_shared(data() + 4 * ptx::tid_x(), 1u);
    ptx::barrier_sync();
    if (ptx::tid_x() == 0) {
      const uint32_t bytes = p.number == too_many ? 512 : p.number == too_few ? 128 : 256;
      if (p.number == overwrite) ptx::st_shared(mbarrier(), 1u);                         // @overwritten
      ptx::mbarrier_arrive_expect_tx(mbarrier(), bytes);                                 // @expect
      if (p.number == arrivals) ptx::mbarrier_arrive(mbarrier());                        // @arrivals
      ptx::bulk_load(data() + (p.number == misaligned ? 8 : 0), p.in, 256, mbarrier());  // @load
    }
    if (p.number != no_wait) ptx::mbarrier_wait(mbarrier(), p.number == parity);  // @wait
    const uint32_t word = ptx::ld_shared<uint32_t>(data() + 4 * ptx::tid_x());    // @read
    ptx::st_global(p.out_words() + ptx::tid_x(), word);
    if (p.number != reuse) return;
    if (ptx::tid_x() == 0) {
      ptx::mbarrier_arrive_expect_tx(mbarrier(), 256);
      ptx::bulk_load(data(), p.in, 256, mbarrier());  // @reload
    }
    ptx::mbarrier_wait(mbarrier(), 1);
  }
};

struct NoInit : Kernel {
  static constexpr const char* kName = "no_init";
  static void run(const Params&) {
    if (ptx::tid_x() == 0) ptx::mbarrier_wait(mbarrier(), 0);  // @no init
  }
};

struct Waits : Kernel {
  static constexpr const char* kName = "waits";
  static void run(const Params&) {
    if (ptx::tid_x() == 0) ptx::mbarrier_init(mbarrier(), 3);
    ptx::barrier_sync();
    if (ptx::tid_x() == 40) {
      ptx::mbarrier_arrive(mbarrier());
      ptx::mbarrier_wait(mbarrier(), 0);  // @waits
    }
    ptx::barrier_sync();
  }
};

// ---- mistakes with stores, registers and dependent launches

// Each thread stores a word to shared memory, thread 0 all of them to global memory.
struct StoreMistakes : Kernel {
  static constexpr const char* kName = "store_mistakes";
  enum { none, no_fence, fence_before, no_wait, early_reuse };
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    if (p.number == fence_before) ptx::fence_proxy_async();
    ptx::st_shared(data() + 4 * tid, tid);  // @fill
    if (p.number != no_fence && p.number != fence_before) ptx::fence_proxy_async();
    ptx::barrier_sync();
    if (tid == 0) {
      ptx::bulk_store(p.out, data(), 4 * ptx::ntid_x());  // @store
      ptx::bulk_commit();
      if (p.number == early_reuse) ptx::st_shared(data(), 5u);  // @early reuse
      if (p.number != no_wait) ptx::bulk_wait_read<0>();
    }
  }
};

// The fence stands in the thread that starts the store: as good.
struct FenceBehind : Kernel {
  static constexpr const char* kName = "fence_behind";
  static void run(const Params& p) {
    ptx::st_shared(data() + 4 * ptx::tid_x(), ptx::tid_x());
    ptx::barrier_sync();
    if (ptx::tid_x() != 0) return;
    ptx::fence_proxy_async();
    ptx::bulk_store(p.out, data(), 4 * ptx::ntid_x());
    ptx::bulk_commit();
    ptx::bulk_wait_read<0>();
  }
};

// d = a b of zeros, in bf16, a 64 x 16, b 8 x 16; then mistakes.
struct MatrixMistakes : Kernel {
  static constexpr const char* kName = "matrix_mistakes";
  enum { none, touched, unnamed, refenced, overwritten, fragment, different, no_proxy_fence, no_wait };
  static void run(const Params& p) {
    const uint32_t base = ptx::smem_base(), tid = ptx::tid_x();
    for (uint32_t i = tid; i < 10 * 1024 / 16; i += ptx::ntid_x()) ptx::st_shared(base + 16 * i, Words4{});
    if (p.number != no_proxy_fence) ptx::fence_proxy_async();
    ptx::barrier_sync();
    ptx::WgmmaAccumulator<8> d;
    ptx::WgmmaFragment a;
    ptx::wgmma_fence(d, a);
    if (p.number == refenced) d.set(0, 1.f);
    const uint32_t skew = p.number == different && ptx::warp_id() == 2 ? 32 : 0;
    const uint64_t b = rk::machine::matrix_descriptor(k128, base + 8192 + skew, 0, 1024);
    ptx::wgmma_rs<ptx::MatrixType::bf16, ptx::Major::k>(d, a, b, false);  // @wgmma
    ptx::wgmma_commit();
    if (p.number == touched) (void)d.get(0);                                         // @touched
    if (p.number == fragment) a.registers()[0] = 1;                                  // @fragment
    if (p.number == overwritten && tid == 0) ptx::st_shared(base + 8192, Words4{});  // @overwritten operand
    if (p.number == unnamed) {
      ptx::wgmma_wait<0>();
    } else if (p.number != no_wait) {
      ptx::wgmma_wait<0>(d, a);
    }
    if (p.number != no_wait) ptx::st_global(p.out_words() + tid, d.get(3) == 0.f ? 1u : 0u);  // @result
  }
};

struct Registers : Kernel {
  static constexpr const char* kName = "registers";
  static void run(const Params& p) {
    if (ptx::tid_x() < 128) {
      if (p.number == 0) ptx::setmaxnreg_dec<24>();
    } else if (ptx::tid_x() < 256) {
      ptx::setmaxnreg_inc<232>();  // @more registers
    }
  }
};

// Weights may be read before the kernels before have ended, activations not.
struct Dependent : Kernel {
  static constexpr const char* kName = "dependent";
  static std::array<Span, 2> spans(const Params& p) {
    return {{{p.in, p.in_bytes, p.number == 0 ? Role::weight : Role::activation, "in"},
             {p.out, p.out_bytes, Role::output, "out"}}};
  }
  static void run(const Params& p) {
    const uint32_t word = ptx::ld_global(p.words() + ptx::tid_x());  // @early load
    if (p.number == 2) return;
    if (ptx::warp_id() == 0) ptx::griddep_wait();
    ptx::barrier_sync();
    ptx::st_global(p.out_words() + ptx::tid_x(), word + 1);
  }
};

// ---- clusters

// Words go round the cluster: block r's word t to block r + 1.
struct Ring : Kernel {
  static constexpr const char* kName = "ring";
  enum { none, no_wait, early_exit, outside };
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x(), blocks = ptx::cluster_blocks();
    const uint32_t next = p.number == outside ? blocks : (ptx::cluster_rank() + 1) % blocks;
    ptx::st_cluster(ptx::mapa(ptx::smem_base() + 4 * tid, next), global_thread());  // @ring store
    ptx::cluster_arrive();
    if (p.number != no_wait) ptx::cluster_wait();
    ptx::st_global(p.out_words() + global_thread(),
                   ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * tid));  // @ring load
    if (p.number == early_exit && ptx::cluster_rank() != 0) return;
    if (p.number == early_exit) {
      for (int i = 0; i < 50; ++i) ptx::warp_sync();
      (void)ptx::ld_cluster<uint32_t>(ptx::mapa(ptx::smem_base(), 1));  // @gone
    }
  }
};

// ---- tensor maps that no machine encodes: `number` picks the rule that is broken

void encode_tiled(const LaunchConfig&, const Bytes& bytes) {
  rk::machine::TiledTensor t = {.type = ElementType::bf16,
                                .rank = 2,
                                .data = bytes.in,
                                .extent = {64, 8},
                                .stride = {128},
                                .box = {64, 8},
                                .element_stride = {1, 1},
                                .swizzle = k128};
  switch (bytes.number) {
    case 1: t.rank = 6; break;
    case 2: t.data = bytes.in + 8; break;
    case 3: t.extent[1] = 0; break;
    case 4: t.stride[0] = 136; break;
    case 5: t.box[1] = 257; break;
    case 6: t.element_stride[1] = 9; break;
    case 7: t.box[0] = 32; break;
    case 8: t.box[0] = 4, t.swizzle = Swizzle::none; break;
    case 9: t.element_stride[0] = 2; break;
    case 10: t.type = ElementType::f32, t.box[0] = 32, t.fill = rk::machine::Fill::nan; break;
    default: break;
  }
  (void)rk::machine::encode(t);
}

void encode_im2col(const LaunchConfig&, const Bytes& bytes) {
  rk::machine::Im2colTensor t = {.type = ElementType::bf16,
                                 .data = bytes.in,
                                 .extent = {64, 8, 8, 2},
                                 .stride = {128, 1024, 8192},
                                 .lower = {-1, -1},
                                 .upper = {-1, -1},
                                 .channels = 64,
                                 .pixels = 128,
                                 .element_stride = {1, 1},
                                 .swizzle = k128};
  switch (bytes.number) {
    case 1: t.lower[1] = -129; break;
    case 2: t.upper[0] = -9; break;
    case 3: t.channels = 257; break;
    case 4: t.pixels = 1025; break;
    case 5: t.stride[2] = uint64_t{1} << 40; break;
    case 6: t.element_stride[0] = 0; break;
    default: break;
  }
  (void)rk::machine::encode(t);
}

// A tensor copy that does not fit its map.
struct CopyMistakes : Kernel {
  struct Params {
    TensorMap tiled, im2col;
    Bytes bytes;
  };
  static constexpr const char* kName = "copy_mistakes";
  static std::array<Span, 2> spans(const Params& p) { return Kernel::spans(p.bytes); }
  static void run(const Params& p) {
    if (ptx::tid_x() != 0) return;
    const uint32_t box = ptx::smem_base() + 1024;
    ptx::mbarrier_init(mbarrier(), 1);
    if (p.bytes.number != 1) ptx::fence_mbarrier_init();
    switch (p.bytes.number) {
      case 1: ptx::tma_load(box, p.tiled, mbarrier(), {0, 0}); break;       // @unfenced
      case 2: ptx::tma_load(box, p.im2col, mbarrier(), {0, 0}); break;      // @wrong rank
      case 3: ptx::tma_load(box + 64, p.tiled, mbarrier(), {0, 0}); break;  // @box alignment
      case 4: ptx::tma_load_im2col(box, p.im2col, mbarrier(), {0, -2, 0, 0}, {0, 0}); break;   // @start pixel
      case 5: ptx::tma_load_im2col(box, p.im2col, mbarrier(), {0, 0, 0, 0}, {256, 0}); break;  // @offset
      case 6: ptx::tma_store(p.tiled, box, {0, 0}); break;                                     // @read-only
      default: ptx::tma_load(box, TensorMap{}, mbarrier(), {0, 0}); break;                     // @no map
    }
  }
  static void start(const LaunchConfig& config, const Bytes& bytes) {
    const TensorMap im2col = rk::machine::encode({.type = ElementType::bf16,
                                                  .data = bytes.in,
                                                  .extent = {64, 2, 2, 1},
                                                  .stride = {128, 256, 512},
                                                  .lower = {-1, -1},
                                                  .upper = {-1, -1},
                                                  .channels = 64,
                                                  .pixels = 4,
                                                  .element_stride = {1, 1},
                                                  .swizzle = k128});
    rk::machine::launch<CopyMistakes>(config, {matrix_map(bytes.in, 64, 4), im2col, bytes});
  }
};

constexpr Entry kEntries[] = {
    {"encode_tiled", encode_tiled},
    {"encode_im2col", encode_im2col},
    {"copy_mistakes", CopyMistakes::start},
    {"pipeline", Pipeline<false>::start},
    {"pipeline_cluster", Pipeline<true>::start},
    {"load_mistakes", rk::machine::launch<LoadMistakes>},
    {"no_init", rk::machine::launch<NoInit>},
    {"waits", rk::machine::launch<Waits>},
    {"store_mistakes", rk::machine::launch<StoreMistakes>},
    {"fence_behind", rk::machine::launch<FenceBehind>},
    {"matrix_mistakes", rk::machine::launch<MatrixMistakes>},
    {"registers", rk::machine::launch<Registers>},
    {"dependent", rk::machine::launch<Dependent>},
    {"ring", rk::machine::launch<Ring>},
};

}  // namespace

std::span<const rk::test::Entry> rk::test::hopper_kernels() { return kEntries; }
