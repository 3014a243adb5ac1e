// Primitives of sm_90 on words: through mbarriers, bulk copies, stmatrix and clusters, and in arithmetic.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/barrier.h>
#include <ptx/bulk.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/fma_oob.h>
#include <ptx/griddepcontrol.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/setmaxnreg.h>
#include <ptx/shared.h>
#include <ptx/stmatrix.h>
#include <ptx/warp.h>

#include "kernels/conformance/primitives.h"

namespace rk::primitives {

// One mbarrier at the start of shared memory, data 128 bytes further on.
constexpr uint32_t kDataOffset = 128;
RK_DEVICE uint32_t data_base() { return ptx::smem_base() + kDataOffset; }

// Made by thread 0, for everybody.
RK_DEVICE void make_mbarrier(uint32_t mbarrier, uint32_t arrivals) {
  if (ptx::tid_x() == 0) {
    ptx::mbarrier_init(mbarrier, arrivals);
    ptx::fence_mbarrier_init();
  }
  ptx::barrier_sync();
}

struct Elect : Defaults {
  static constexpr uint32_t kThreads = 64;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = ptx::ballot(ptx::elect_one()) + in[0];
  }
};

// Three phases: in each, every thread hands its word, times the phase, to its mirror image.
struct Mbarrier : Defaults {
  static constexpr uint32_t kThreads = 128, kOut = 3, kSmem = kDataOffset + 4 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t full = ptx::smem_base(), empty = full + 8, tid = ptx::tid_x();
    if (tid == 0) ptx::mbarrier_init(empty, kThreads);
    make_mbarrier(full, kThreads);
    for (uint32_t phase = 0; phase < kOut; ++phase) {
      ptx::mbarrier_wait(empty, (phase & 1) ^ 1);
      ptx::st_shared(data_base() + 4 * tid, in[0] * (phase + 1));
      ptx::mbarrier_arrive(full);
      ptx::mbarrier_wait(full, phase & 1);
      out[phase] = ptx::ld_shared<uint32_t>(data_base() + 4 * (kThreads - 1 - tid));
      ptx::mbarrier_arrive(empty);
    }
  }
};

// The block's words by one bulk load, back to front.
struct BulkLoad : Defaults {
  static constexpr uint32_t kThreads = 128, kSmem = kDataOffset + 4 * kThreads;
  static RK_DEVICE void apply_at(const uint32_t* global, const uint32_t*, uint32_t* out) {
    const uint32_t mbarrier = ptx::smem_base(), tid = ptx::tid_x();
    make_mbarrier(mbarrier, 1);
    if (tid == 0) {
      ptx::mbarrier_arrive_expect_tx(mbarrier, 4 * kThreads);
      ptx::bulk_load(data_base(), global, 4 * kThreads, mbarrier);
    }
    ptx::mbarrier_wait(mbarrier, 0);
    out[0] = ptx::ld_shared<uint32_t>(data_base() + 4 * (kThreads - 1 - tid));
  }
};

// Lane l stores its words as fragments of matrices and loads row l of 16 bytes; in[4] names the row that it
// gives the address of.
template <int kCount, bool kTrans>
struct Stmatrix : Defaults {
  static constexpr uint32_t kIn = 8, kOut = 4, kSmem = 32 * 16;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t mine = ptx::smem_base() + 16 * ptx::lane_id();
    ptx::st_shared(mine, Words4{});
    ptx::warp_sync();
    const uint32_t row = ptx::smem_base() + 16 * in[4];
    if constexpr (kCount == 2) {
      const uint32_t r[2] = {in[0], in[1]};
      ptx::stmatrix_x2(row, r);
    } else {
      const uint32_t r[4] = {in[0], in[1], in[2], in[3]};
      if constexpr (kTrans) {
        ptx::stmatrix_x4_trans(row, r);
      } else {
        ptx::stmatrix_x4(row, r);
      }
    }
    ptx::warp_sync();
    const auto words = ptx::ld_shared<Words4>(mine);
    memcpy(out, &words, 16);
  }
};

// Two warpgroups: the first gives registers to the second. Words pass through.
struct Setmaxnreg : Defaults {
  static constexpr uint32_t kThreads = 256;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    if (ptx::tid_x() < 128) {
      ptx::setmaxnreg_dec<64>();
    } else {
      ptx::setmaxnreg_dec<128>();
      ptx::barrier_sync<1>(128);
      ptx::setmaxnreg_inc<160>();
    }
    out[0] = in[0];
  }
};

// Without programmatic dependent launch both are without effect.
struct Griddepcontrol : Defaults {
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    out[0] = in[0];
  }
};

// Launched in clusters and as programmatic dependent launch at once.
struct DependentClusters : Defaults {
  static constexpr uint32_t kBlocks = 4, kCluster = 2;
  static constexpr bool kPdl = true;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    ptx::griddep_launch_dependents();
    out[0] = in[0];
  }
};

// ---- clusters of two: words change blocks

struct ClusterIds : Defaults {
  static constexpr uint32_t kBlocks = 4, kCluster = 2, kOut = 2;
  static RK_DEVICE void apply(const uint32_t*, uint32_t* out) {
    out[0] = ptx::cluster_rank();
    out[1] = ptx::cluster_blocks();
  }
};

// Each thread reads the word of the same thread of the other block, and writes it, plus one, back to it.
struct ClusterExchange : Defaults {
  static constexpr uint32_t kThreads = 64, kBlocks = 4, kCluster = 2, kOut = 2, kSmem = 4 * 2 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t mine = ptx::smem_base() + 4 * ptx::tid_x();
    const uint32_t theirs = ptx::mapa(mine, ptx::cluster_rank() ^ 1);
    ptx::st_shared(mine, in[0]);
    ptx::cluster_arrive();
    ptx::cluster_wait();
    out[0] = ptx::ld_cluster<uint32_t>(theirs);
    ptx::st_cluster(theirs + 4 * kThreads, out[0] + 1);
    ptx::cluster_arrive();
    ptx::cluster_wait();
    out[1] = ptx::ld_shared<uint32_t>(mine + 4 * kThreads);
  }
};

// The block's words go to the other block by a bulk copy between shared memories.
struct ClusterBulkCopy : Defaults {
  static constexpr uint32_t kThreads = 64, kBlocks = 2, kCluster = 2, kSmem = kDataOffset + 4 * 2 * kThreads;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t mbarrier = ptx::smem_base(), tid = ptx::tid_x(), other = ptx::cluster_rank() ^ 1;
    make_mbarrier(mbarrier, 1);
    ptx::st_shared(data_base() + 4 * tid, in[0]);
    ptx::fence_proxy_async();
    ptx::cluster_arrive();
    ptx::cluster_wait();
    if (tid == 0) {
      ptx::mbarrier_arrive_expect_tx(mbarrier, 4 * kThreads);
      ptx::bulk_copy_cluster(ptx::mapa(data_base() + 4 * kThreads, other), data_base(), 4 * kThreads,
                             ptx::mapa(mbarrier, other));
    }
    ptx::mbarrier_wait(mbarrier, 0);
    out[0] = ptx::ld_shared<uint32_t>(data_base() + 4 * (kThreads + tid));
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
};

// Threads of both blocks arrive at one mbarrier of block 0, which waits for them: only then does it go on.
struct ClusterMbarrier : Defaults {
  static constexpr uint32_t kThreads = 32, kBlocks = 2, kCluster = 2, kSmem = kDataOffset;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    const uint32_t mbarrier = ptx::smem_base();
    make_mbarrier(mbarrier, 2 * kThreads);
    ptx::cluster_arrive();
    ptx::cluster_wait();
    ptx::mbarrier_arrive_cluster(ptx::mapa(mbarrier, 0));
    if (ptx::cluster_rank() == 0) ptx::mbarrier_wait(mbarrier, 0);
    out[0] = in[0];
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
};

// ---- arithmetic: a, b and c in each half of a word

struct FmaOobBf16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kBlocks = 256, kIn = 3;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = ptx::fma_oob_bf16x2(in[0], in[1], in[2]);
  }
};
struct FmaOobF16x2 : Defaults {
  static constexpr uint32_t kThreads = 128, kBlocks = 256, kIn = 3;
  static RK_DEVICE void apply(const uint32_t* in, uint32_t* out) {
    out[0] = ptx::fma_oob_f16x2(in[0], in[1], in[2]);
  }
};

}  // namespace rk::primitives
