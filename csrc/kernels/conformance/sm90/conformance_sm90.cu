// The instructions that came with sm_90, in kernels compiled for it alone; see kernels/conformance/.
#include <cstdint>
#include <cstring>

#include "kernels/conformance/harness.h"
#include "kernels/conformance/sm90/exchanges.h"
#include "kernels/conformance/sm90/matrices.h"
#include "kernels/conformance/sm90/tensors.h"

namespace rk::conformance_kernels {
namespace {

using namespace primitives;

constexpr Major kK = Major::k, kMn = Major::mn;
constexpr Swizzle k64 = Swizzle::span64, k128 = Swizzle::span128;
constexpr MatrixType kBf16 = MatrixType::bf16, kF16 = MatrixType::f16, kTf32 = MatrixType::tf32;

constexpr Entry kEntries[] = {
    entry<Elect>("elect"),
    entry<Mbarrier>("mbarrier"),
    entry<BulkLoad>("bulk_load"),
    words_entry<RowStore>("bulk_store"),
    entry<Stmatrix<4, false>>("stmatrix_x4"),
    entry<Stmatrix<4, true>>("stmatrix_x4_trans"),
    entry<Stmatrix<2, false>>("stmatrix_x2"),
    entry<Setmaxnreg>("setmaxnreg"),
    entry<Griddepcontrol>("griddepcontrol"),
    entry<DependentClusters>("griddepcontrol_clusters"),
    entry<ClusterIds>("cluster_ids"),
    entry<ClusterExchange>("cluster_exchange"),
    entry<ClusterBulkCopy>("cluster_bulk_copy"),
    entry<ClusterMbarrier>("cluster_mbarrier"),
    load_entry<Plane<Swizzle::none>>("tma_plane_plain"),
    load_entry<Plane<Swizzle::span32>>("tma_plane_32"),
    load_entry<Plane<Swizzle::span64>>("tma_plane_64"),
    load_entry<Plane<Swizzle::span128>>("tma_plane_128"),
    load_entry<PlaneEnd>("tma_plane_end"),
    load_entry<PastPlane>("tma_plane_past"),
    load_entry<NanPlane>("tma_plane_nan"),
    load_entry<Overlapping>("tma_overlapping"),
    load_entry<Volume>("tma_volume"),
    load_entry<Window>("tma_window"),
    load_entry<FewChannels>("tma_window_few_channels"),
    load_entry<OnePixel>("tma_window_one_pixel"),
    load_entry<Phase>("tma_phase"),
    load_entry<PastImages>("tma_window_past_images"),
    load_entry<PastChannels>("tma_window_past_channels"),
    load_entry<NanWindow<Bf16Nans>>("tma_window_nan_bf16"),
    load_entry<NanWindow<F16Nans>>("tma_window_nan_f16"),
    load_entry<StridedWindow>("tma_strided_window"),
    load_entry<PlaneEnd, true>("tma_plane_multicast"),
    load_entry<Window, true>("tma_window_multicast"),
    store_entry<PlaneEnd>("tma_store_plane"),
    store_entry<Volume>("tma_store_volume"),
    store_entry<Window>("tma_store_window"),
    store_entry<FewChannels>("tma_store_few_channels"),
    store_entry<Phase>("tma_store_phase"),
    store_entry<StridedWindow>("tma_store_strided_window"),
    matrix_entry<kBf16, 64, k128, kK, kK>("wgmma_bf16_64_k_k"),
    matrix_entry<kBf16, 256, k128, kK, kMn>("wgmma_bf16_256_k_mn"),
    matrix_entry<kBf16, 192, k128, kMn, kMn>("wgmma_bf16_192_mn_mn"),
    matrix_entry<kBf16, 8, k64, kMn, kK>("wgmma_bf16_8_mn_k_64"),
    matrix_entry<kBf16, 40, k64, kK, kMn>("wgmma_bf16_40_k_mn_64"),
    matrix_entry<kF16, 128, k128, kK, kK>("wgmma_f16_128_k_k"),
    matrix_entry<kF16, 72, k128, kMn, kK>("wgmma_f16_72_mn_k"),
    matrix_entry<kTf32, 96, k128, kK, kK>("wgmma_tf32_96_k_k"),
    matrix_entry<kF16, 96, Swizzle::none, kK, kK>("wgmma_f16_96_k_k_plain"),
    matrix_entry<kBf16, 128, k128, kK, kMn, true>("wgmma_bf16_128_registers_mn"),
    matrix_entry<kBf16, 120, Swizzle::none, kK, kK, true>("wgmma_bf16_120_registers_k_plain"),
    matrix_entry<kF16, 64, k128, kK, kK, true>("wgmma_f16_64_registers_k"),
    matrix_entry<kTf32, 32, k128, kK, kK, true>("wgmma_tf32_32_registers_k"),
    words_entry<WgmmaPatch>("wgmma_patch"),
    entry<FmaOobBf16x2>("fma_oob_bf16x2"),
    entry<FmaOobF16x2>("fma_oob_f16x2"),
};

}  // namespace

bool find_sm90(const char* primitive, Entry& found) {
  for (const Entry& entry : kEntries) {
    if (std::strcmp(entry.name, primitive) != 0) continue;
    found = entry;
    return true;
  }
  return false;
}

}  // namespace rk::conformance_kernels
