// cp.async.bulk.tensor (PTX ISA 9.7.9.27.1): the tensor memory access unit copies boxes of tensors, which
// tensor maps describe, between global and shared memory. One thread starts a copy.
//
// A load arrives with its bytes (the whole box, padding included) at an mbarrier, which must expect them. A
// store belongs to the thread's bulk group (<ptx/bulk.h>). Shared addresses are multiples of 128, and of 1024
// where the swizzle is to start over. Coordinates are signed, innermost dimension first.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "engine/site.h"
#include "machine/tensor_map.h"

namespace ptx {

using rk::machine::TensorMap;

namespace detail {

// `blocks`: of the cluster, as a mask; 0 is the thread's own.
void tma_load(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint32_t blocks, const int32_t* at,
              int rank, rk::sim::Site site);
void tma_load_im2col(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint32_t blocks,
                     const int32_t* at, const uint16_t* offset, rk::sim::Site site);
void tma_store(const TensorMap& map, uint32_t shared, const int32_t* at, int rank, bool im2col,
               rk::sim::Site site);

}  // namespace detail

// ---- loads

template <int kRank>
RK_DEVICE void tma_load(uint32_t shared, const TensorMap& map, uint32_t mbarrier, const int32_t (&at)[kRank],
                        rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kRank >= 2 && kRank <= 5, "boxes of two to five dimensions");
  detail::tma_load(shared, map, mbarrier, 0, at, kRank, site);
}

// Into the same place of every block of the cluster whose bit is set, arriving at the mbarrier that lies
// there in the same place.
template <int kRank>
RK_DEVICE void tma_load_multicast(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint16_t blocks,
                                  const int32_t (&at)[kRank], rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kRank >= 2 && kRank <= 4, "multicast boxes of two to four dimensions");
  detail::tma_load(shared, map, mbarrier, blocks, at, kRank, site);
}

// at: {c, w, h, n}, a pixel of the bounding box; offset: {w, h}, 0 to 255.
RK_DEVICE void tma_load_im2col(uint32_t shared, const TensorMap& map, uint32_t mbarrier,
                               const int32_t (&at)[4], const uint16_t (&offset)[2],
                               rk::sim::Site site = rk::sim::Site::here()) {
  detail::tma_load_im2col(shared, map, mbarrier, 0, at, offset, site);
}

RK_DEVICE void tma_load_im2col_multicast(uint32_t shared, const TensorMap& map, uint32_t mbarrier,
                                         uint16_t blocks, const int32_t (&at)[4], const uint16_t (&offset)[2],
                                         rk::sim::Site site = rk::sim::Site::here()) {
  detail::tma_load_im2col(shared, map, mbarrier, blocks, at, offset, site);
}

// ---- stores

template <int kRank>
RK_DEVICE void tma_store(const TensorMap& map, uint32_t shared, const int32_t (&at)[kRank],
                         rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kRank >= 2 && kRank <= 4, "boxes of two to four dimensions");
  detail::tma_store(map, shared, at, kRank, false, site);
}

// The walk of an im2col map, without offsets.
RK_DEVICE void tma_store_im2col(const TensorMap& map, uint32_t shared, const int32_t (&at)[4],
                                rk::sim::Site site = rk::sim::Site::here()) {
  detail::tma_store(map, shared, at, 4, true, site);
}

// ---- hints

// The box will be loaded soon: into L2 with it (cp.async.bulk.prefetch.tensor, PTX ISA 9.7.9.27.3).
template <int kRank>
RK_DEVICE void tma_prefetch(const TensorMap&, const int32_t (&)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 3, "prefetched boxes of two or three dimensions");
}

RK_DEVICE void tma_prefetch_im2col(const TensorMap&, const int32_t (&)[4], const uint16_t (&)[2]) {}

// The map itself will be used soon (prefetch.tensormap, PTX ISA 9.7.9.17).
RK_DEVICE void prefetch_tensor_map(const TensorMap&) {}

}  // namespace ptx
