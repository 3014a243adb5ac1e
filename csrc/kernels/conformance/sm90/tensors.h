// Kernels that copy one box of the input by the tensor memory access unit and give back what lies in shared
// memory then, byte for byte; and the way back.
//
// The tensor maps are described here in full: tests hold the answers to a model of the copy with the same
// figures.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <launch.h>
#include <ptx/barrier.h>
#include <ptx/bulk.h>
#include <ptx/cluster.h>
#include <ptx/fence.h>
#include <ptx/global.h>
#include <ptx/ids.h>
#include <ptx/mbarrier.h>
#include <ptx/shared.h>
#include <ptx/tma.h>

#include "kernels/conformance/harness.h"
#include "kernels/conformance/sm90/exchanges.h"
#include "machine/tensor_map.h"

namespace rk::conformance_kernels {

using machine::ElementType;
using machine::Fill;
using machine::Swizzle;

struct TensorParams {
  machine::TensorMap map;
  Buffers buffers;
};

// What the cases below do not say otherwise.
struct Words {
  static constexpr ElementType kType = ElementType::f32;
  static constexpr Fill kFill = Fill::zero;
};
struct Bf16Nans {
  static constexpr ElementType kType = ElementType::bf16;
  static constexpr Fill kFill = Fill::nan;
};
struct F16Nans {
  static constexpr ElementType kType = ElementType::f16;
  static constexpr Fill kFill = Fill::nan;
};

// A tiled tensor of kRank dimensions, densely packed unless it has kStrideBytes; the box starts at kAt.
template <Swizzle kSwizzle>
struct Plane : Words {  // 2-d, over the left and the upper edge
  static constexpr int kRank = 2;
  static constexpr Swizzle kMode = kSwizzle;
  static constexpr uint64_t kExtent[2] = {40, 30};
  static constexpr uint32_t kBox[2] = {kSwizzle == Swizzle::none ? 32 : machine::span_bytes(kSwizzle) / 4,
                                       16};
  static constexpr uint32_t kStep[2] = {1, 1};
  static constexpr int32_t kAt[2] = {-2, -3};
};
struct PlaneEnd : Words {  // 2-d, over the right and the lower edge
  static constexpr int kRank = 2;
  static constexpr Swizzle kMode = Swizzle::span128;
  static constexpr uint64_t kExtent[2] = {40, 30};
  static constexpr uint32_t kBox[2] = {32, 8};
  static constexpr uint32_t kStep[2] = {1, 1};
  static constexpr int32_t kAt[2] = {17, 25};
};
struct PastPlane : PlaneEnd {  // begins one column past the last
  static constexpr int32_t kAt[2] = {40, 3};
};
struct NanPlane : Bf16Nans {  // 2-d, over the right and the lower edge
  static constexpr int kRank = 2;
  static constexpr Swizzle kMode = Swizzle::span128;
  static constexpr uint64_t kExtent[2] = {88, 30};
  static constexpr uint32_t kBox[2] = {64, 8};
  static constexpr uint32_t kStep[2] = {1, 1};
  static constexpr int32_t kAt[2] = {45, 25};
};
// 3-d: windows of four pixels of four channels, a pixel apart, in every other line of twelve pixels: an
// element lies in up to four windows.
struct Overlapping : Words {
  static constexpr int kRank = 3;
  static constexpr Swizzle kMode = Swizzle::span64;
  static constexpr uint64_t kExtent[3] = {16, 9, 7};
  static constexpr uint64_t kStrideBytes[2] = {16, 192};
  static constexpr int64_t kTensorWords = 7 * 48;  // that the windows lie in
  static constexpr uint32_t kBox[3] = {16, 8, 8};
  static constexpr uint32_t kStep[3] = {1, 1, 2};
  static constexpr int32_t kAt[3] = {0, 3, -1};
};
struct Volume : Words {  // 4-d, every other row, every third image
  static constexpr int kRank = 4;
  static constexpr Swizzle kMode = Swizzle::span64;
  static constexpr uint64_t kExtent[4] = {16, 5, 7, 8};
  static constexpr uint32_t kBox[4] = {16, 3, 6, 7};
  static constexpr uint32_t kStep[4] = {1, 1, 2, 3};
  static constexpr int32_t kAt[4] = {0, 3, 2, 3};
};

// Four-dimensional tensors {C, W, H, N}, densely packed unless they have kStrideBytes, walked pixel by pixel.
struct Window : Words {  // a 3x3 window with padding 1, its centre and one corner
  static constexpr Swizzle kMode = Swizzle::span128;
  static constexpr uint64_t kExtent[4] = {32, 9, 11, 2};
  static constexpr int kLower[2] = {-1, -1}, kUpper[2] = {-1, -1};
  static constexpr uint32_t kChannels = 32, kPixels = 48, kStep[2] = {1, 1};
  static constexpr int32_t kAt[4] = {0, 3, 8, 0};
  static constexpr uint16_t kOffset[2] = {2, 0};
};
struct FewChannels : Window {  // fewer than a copy takes of each pixel
  static constexpr uint64_t kExtent[4] = {8, 9, 11, 2};
};
struct OnePixel : Window {  // images of one pixel: the bounding box is the corner before it
  static constexpr uint64_t kExtent[4] = {32, 1, 1, 3};
  static constexpr uint32_t kPixels = 8;
  static constexpr int32_t kAt[4] = {0, -1, -1, 1};
  static constexpr uint16_t kOffset[2] = {1, 1};
};
struct Phase : Words {  // every other pixel of 7 x 7: no stride is a multiple of the one before
  static constexpr Swizzle kMode = Swizzle::span128;
  static constexpr uint64_t kExtent[4] = {32, 4, 4, 2};
  static constexpr uint64_t kStrideBytes[3] = {2 * 128, 14 * 128, 49 * 128};
  static constexpr int64_t kTensorWords = 2 * 49 * 32;
  static constexpr int kLower[2] = {0, 0}, kUpper[2] = {0, 0};
  static constexpr uint32_t kChannels = 32, kPixels = 24, kStep[2] = {1, 1};
  static constexpr int32_t kAt[4] = {0, 1, 2, 0};
  static constexpr uint16_t kOffset[2] = {0, 0};
};
struct PastImages : Window {  // begins one image past the last
  static constexpr int32_t kAt[4] = {0, -1, -1, 2};
};
struct PastChannels : Window {  // begins one channel past the last
  static constexpr int32_t kAt[4] = {32, 3, 8, 0};
};
template <class Nans>
struct NanWindow : Nans {  // the window's edges, and channels past the end
  static constexpr Swizzle kMode = Swizzle::span128;
  static constexpr uint64_t kExtent[4] = {48, 9, 11, 2};
  static constexpr int kLower[2] = {-1, -1}, kUpper[2] = {-1, -1};
  static constexpr uint32_t kChannels = 64, kPixels = 48, kStep[2] = {1, 1};
  static constexpr int32_t kAt[4] = {0, 3, 8, 0};
  static constexpr uint16_t kOffset[2] = {2, 0};
};
struct StridedWindow : Words {  // stride 2, channels past the end, pixels past the last image
  static constexpr Swizzle kMode = Swizzle::span64;
  static constexpr uint64_t kExtent[4] = {24, 8, 6, 2};
  static constexpr int kLower[2] = {-2, -1}, kUpper[2] = {-2, -1};
  static constexpr uint32_t kChannels = 16, kPixels = 32, kStep[2] = {2, 3};
  static constexpr int32_t kAt[4] = {16, 0, 2, 1};
  static constexpr uint16_t kOffset[2] = {3, 2};
};

template <class Case>
concept Tiled = requires { Case::kBox; };

template <class Case>
constexpr uint32_t box_words() {
  if constexpr (Tiled<Case>) {
    uint32_t words = 1;
    for (int i = 0; i < Case::kRank; ++i) words *= (Case::kBox[i] + Case::kStep[i] - 1) / Case::kStep[i];
    return words * machine::element_bytes(Case::kType) / 4;
  } else {
    return Case::kChannels * Case::kPixels * machine::element_bytes(Case::kType) / 4;
  }
}

template <class Case>
constexpr int64_t tensor_words() {
  if constexpr (requires { Case::kTensorWords; }) return Case::kTensorWords;
  int64_t words = 1;
  for (const uint64_t extent : Case::kExtent) words *= static_cast<int64_t>(extent);
  return words * machine::element_bytes(Case::kType) / 4;
}

template <class Case>
machine::TensorMap encode_case(const void* data) {
  if constexpr (Tiled<Case>) {
    machine::TiledTensor t = {.type = Case::kType,
                              .rank = Case::kRank,
                              .data = data,
                              .extent = {},
                              .stride = {},
                              .box = {},
                              .element_stride = {},
                              .swizzle = Case::kMode,
                              .fill = Case::kFill};
    uint64_t stride = machine::element_bytes(Case::kType);
    for (int i = 0; i < Case::kRank; ++i) {
      t.extent[i] = Case::kExtent[i];
      t.box[i] = Case::kBox[i];
      t.element_stride[i] = Case::kStep[i];
      if (i != 0) t.stride[i - 1] = stride;
      stride *= Case::kExtent[i];
    }
    if constexpr (requires { Case::kStrideBytes; }) std::ranges::copy(Case::kStrideBytes, t.stride);
    return machine::encode(t);
  } else {
    const auto& e = Case::kExtent;
    const uint64_t pixel = machine::element_bytes(Case::kType) * e[0];
    machine::Im2colTensor t = {.type = Case::kType,
                               .data = data,
                               .extent = {e[0], e[1], e[2], e[3]},
                               .stride = {pixel, pixel * e[1], pixel * e[1] * e[2]},
                               .lower = {Case::kLower[0], Case::kLower[1]},
                               .upper = {Case::kUpper[0], Case::kUpper[1]},
                               .channels = Case::kChannels,
                               .pixels = Case::kPixels,
                               .element_stride = {Case::kStep[0], Case::kStep[1]},
                               .swizzle = Case::kMode,
                               .fill = Case::kFill};
    if constexpr (requires { Case::kStrideBytes; }) std::ranges::copy(Case::kStrideBytes, t.stride);
    return machine::encode(t);
  }
}

constexpr uint32_t kBoxOffset = 1024;  // of the box in shared memory; the mbarrier is at its start

template <class Case, bool kMulticast>
RK_DEVICE void load_box(const TensorParams& p, uint32_t mbarrier) {
  const uint32_t box = ptx::smem_base() + kBoxOffset;
  if constexpr (kMulticast) {
    if constexpr (Tiled<Case>) {
      ptx::tma_load_multicast(box, p.map, mbarrier, 3, {Case::kAt[0], Case::kAt[1]});
    } else {
      ptx::tma_load_im2col_multicast(box, p.map, mbarrier, 3,
                                     {Case::kAt[0], Case::kAt[1], Case::kAt[2], Case::kAt[3]},
                                     {Case::kOffset[0], Case::kOffset[1]});
    }
  } else if constexpr (!Tiled<Case>) {
    ptx::tma_load_im2col(box, p.map, mbarrier, {Case::kAt[0], Case::kAt[1], Case::kAt[2], Case::kAt[3]},
                         {Case::kOffset[0], Case::kOffset[1]});
  } else if constexpr (Case::kRank == 2) {
    ptx::tma_load(box, p.map, mbarrier, {Case::kAt[0], Case::kAt[1]});
  } else if constexpr (Case::kRank == 3) {
    ptx::tma_load(box, p.map, mbarrier, {Case::kAt[0], Case::kAt[1], Case::kAt[2]});
  } else {
    ptx::tma_load(box, p.map, mbarrier, {Case::kAt[0], Case::kAt[1], Case::kAt[2], Case::kAt[3]});
  }
}

// y = the box; with multicast, block 1 of a cluster of two loads it for both.
template <class Case, bool kMulticast>
struct BoxLoad {
  using Params = TensorParams;
  static constexpr const char* kName = "conformance_box_load";
  static constexpr uint32_t kThreads = 64, kMinBlocks = 1, kBlocks = kMulticast ? 2 : 1;
  static constexpr uint32_t kWords = box_words<Case>(), kSmem = kBoxOffset + 4 * kWords;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.buffers.in, tensor_words<Case>() * 4, Role::activation, "x"},
             {p.buffers.out, int64_t{kBlocks} * kWords * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t mbarrier = ptx::smem_base(), tid = ptx::tid_x();
    primitives::make_mbarrier(mbarrier, 1);
    if (tid == 0) {
      ptx::prefetch_tensor_map(p.map);
      ptx::mbarrier_arrive_expect_tx(mbarrier, 4 * kWords);
    }
    if constexpr (kMulticast) {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
    if (tid == 0 && ptx::cluster_rank() + 1 == kBlocks) load_box<Case, kMulticast>(p, mbarrier);
    ptx::mbarrier_wait(mbarrier, 0);
    for (uint32_t i = tid; i < kWords; i += kThreads) {
      ptx::st_global(p.buffers.out + ptx::ctaid_x() * kWords + i,
                     ptx::ld_shared<uint32_t>(ptx::smem_base() + kBoxOffset + 4 * i));
    }
    if constexpr (kMulticast) {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
  }
};

// y = x where the box lies in the tensor; the rest of y is left alone. Im2col maps store without offsets.
template <class Case>
struct BoxStore {
  using Params = TensorParams;
  static constexpr const char* kName = "conformance_box_store";
  static constexpr uint32_t kThreads = 64, kMinBlocks = 1;
  static constexpr uint32_t kWords = box_words<Case>(), kSmem = kBoxOffset + 4 * kWords;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.buffers.in, int64_t{kWords} * 4, Role::activation, "x"},
             {p.buffers.out, tensor_words<Case>() * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t box = ptx::smem_base() + kBoxOffset, tid = ptx::tid_x();
    for (uint32_t i = tid; i < kWords; i += kThreads) {
      ptx::st_shared(box + 4 * i, ptx::ld_global(p.buffers.in + i));
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync();
    if (tid != 0) return;
    if constexpr (!Tiled<Case>) {
      ptx::tma_store_im2col(p.map, box, {Case::kAt[0], Case::kAt[1], Case::kAt[2], Case::kAt[3]});
    } else if constexpr (Case::kRank == 2) {
      ptx::tma_store(p.map, box, {Case::kAt[0], Case::kAt[1]});
    } else {
      ptx::tma_store(p.map, box, {Case::kAt[0], Case::kAt[1], Case::kAt[2], Case::kAt[3]});
    }
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
  }
};

// A bulk store of kWords words in a row.
struct RowStore {
  using Params = Buffers;
  static constexpr const char* kName = "conformance_row_store";
  static constexpr uint32_t kThreads = 64, kMinBlocks = 1, kWords = 256, kSmem = 4 * kWords;
  static constexpr int64_t kInWords = kWords, kOutWords = kWords;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.in, int64_t{kWords} * 4, Role::activation, "x"},
             {p.out, int64_t{kWords} * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    for (uint32_t i = tid; i < kWords; i += kThreads) {
      ptx::st_shared(ptx::smem_base() + 4 * i, ptx::ld_global(p.in + i));
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync();
    if (tid != 0) return;
    ptx::bulk_store(p.out, ptx::smem_base(), 2 * kWords);
    ptx::bulk_commit();
    ptx::bulk_store(p.out + kWords / 2, ptx::smem_base() + 2 * kWords, 2 * kWords);
    ptx::bulk_commit();
    ptx::bulk_wait_read<1>();
    ptx::bulk_wait<0>();
  }
};

template <class Case, bool kMulticast = false>
constexpr Entry load_entry(const char* name) {
  using Kernel = BoxLoad<Case, kMulticast>;
  return {name, tensor_words<Case>(), int64_t{Kernel::kBlocks} * Kernel::kWords,
          [](const Buffers& buffers, Stream stream) {
            start<Kernel>(Kernel::kBlocks, Kernel::kBlocks, Kernel::kSmem,
                          {encode_case<Case>(buffers.in), buffers}, stream);
          }};
}

template <class Case>
constexpr Entry store_entry(const char* name) {
  using Kernel = BoxStore<Case>;
  return {name, Kernel::kWords, tensor_words<Case>(), [](const Buffers& buffers, Stream stream) {
            start<Kernel>(1, 1, Kernel::kSmem, {encode_case<Case>(buffers.out), buffers}, stream);
          }};
}

}  // namespace rk::conformance_kernels
