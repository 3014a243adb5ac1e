// cp.async.bulk.tensor (PTX ISA 9.7.9.27.1): the tensor memory access unit copies boxes of tensors, which
// tensor maps describe, between global and shared memory. One thread starts a copy.
//
// A load arrives with its bytes (the whole box, padding included) at an mbarrier, which must expect them. A
// store belongs to the thread's bulk group (<ptx/bulk.h>). Shared addresses are multiples of 128, and of 1024
// where the swizzle is to start over. Coordinates are signed, innermost dimension first.
#pragma once

#include <cstdint>

#include <ptx/target.h>

#include "machine/tensor_map.h"

namespace ptx {

using rk::machine::TensorMap;

// ---- loads

template <int kRank>
RK_DEVICE void tma_load(uint32_t shared, const TensorMap& map, uint32_t mbarrier,
                        const int32_t (&at)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 5, "boxes of two to five dimensions");
  if constexpr (kRank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4}], [%2];" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4, %5}], [%2];" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else if constexpr (kRank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4, %5, %6}], [%2];" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4, %5, %6, %7}], [%2];" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
        : "memory");
  }
}

// Into the same place of every block of the cluster whose bit is set, arriving at the mbarrier that lies
// there in the same place.
template <int kRank>
RK_DEVICE void tma_load_multicast(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint16_t blocks,
                                  const int32_t (&at)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 4, "multicast boxes of two to four dimensions");
  if constexpr (kRank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%4, %5}], [%2], %3;" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "h"(blocks), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "h"(blocks), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(shared),
        "l"(&map), "r"(mbarrier), "h"(blocks), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  }
}

// at: {c, w, h, n}, a pixel of the bounding box; offset: {w, h}, 0 to 255.
RK_DEVICE void tma_load_im2col(uint32_t shared, const TensorMap& map, uint32_t mbarrier,
                               const int32_t (&at)[4], const uint16_t (&offset)[2]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6}], [%2], {%7, %8};" ::"r"(shared),
      "l"(&map), "r"(mbarrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "h"(offset[0]), "h"(offset[1])
      : "memory");
}

RK_DEVICE void tma_load_im2col_multicast(uint32_t shared, const TensorMap& map, uint32_t mbarrier,
                                         uint16_t blocks, const int32_t (&at)[4],
                                         const uint16_t (&offset)[2]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5, %6, %7}], [%2], {%8, %9}, %3;" ::"r"(shared),
      "l"(&map), "r"(mbarrier), "h"(blocks), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "h"(offset[0]),
      "h"(offset[1])
      : "memory");
}

// ---- stores

template <int kRank>
RK_DEVICE void tma_store(const TensorMap& map, uint32_t shared, const int32_t (&at)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 4, "boxes of two to four dimensions");
  if constexpr (kRank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
        "r"(shared), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
        "r"(shared), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            &map),
        "r"(shared), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  }
}

// The walk of an im2col map, without offsets.
RK_DEVICE void tma_store_im2col(const TensorMap& map, uint32_t shared, const int32_t (&at)[4]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.im2col_no_offs.bulk_group [%0, {%2, %3, %4, %5}], "
      "[%1];" ::"l"(&map),
      "r"(shared), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
      : "memory");
}

// ---- hints

// The box will be loaded soon: into L2 with it (cp.async.bulk.prefetch.tensor, PTX ISA 9.7.9.27.3).
template <int kRank>
RK_DEVICE void tma_prefetch(const TensorMap& map, const int32_t (&at)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 3, "prefetched boxes of two or three dimensions");
  if constexpr (kRank == 2) {
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(&map), "r"(at[0]),
                 "r"(at[1])
                 : "memory");
  } else {
    asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&map),
                 "r"(at[0]), "r"(at[1]), "r"(at[2])
                 : "memory");
  }
}

RK_DEVICE void tma_prefetch_im2col(const TensorMap& map, const int32_t (&at)[4],
                                   const uint16_t (&offset)[2]) {
  asm volatile(
      "cp.async.bulk.prefetch.tensor.4d.L2.global.im2col [%0, {%1, %2, %3, %4}], {%5, %6};" ::"l"(&map),
      "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "h"(offset[0]), "h"(offset[1])
      : "memory");
}

// The map itself will be used soon (prefetch.tensormap, PTX ISA 9.7.9.17).
RK_DEVICE void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

}  // namespace ptx
