// Tensor maps by the driver's own encoder, which is found at run time: nothing links libcuda.
#include "machine/tensor_map.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace rk::machine {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap), "a TensorMap holds what the driver encodes");

constexpr CUtensorMapDataType kTypes[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                          CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
constexpr CUtensorMapSwizzle kSwizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                            CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
constexpr CUtensorMapFloatOOBfill kFills[] = {CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA};

// The driver's function of this name, as of CUDA 12.0.
template <class Function>
Function* driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw std::runtime_error(std::string("the driver has no ") + name + ": it is too old for tensor maps");
  }
  return reinterpret_cast<Function*>(function);
}

TensorMap result(CUresult status, const CUtensorMap& encoded) {
  if (status != CUDA_SUCCESS) {
    throw std::runtime_error("tensor map: the driver refuses it with error " + std::to_string(status));
  }
  TensorMap map;
  std::memcpy(&map, &encoded, sizeof map);
  return map;
}

}  // namespace

TensorMap encode(const TiledTensor& t) {
  require_encodable(t);
  static auto* const encode_tiled =
      driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  alignas(64) CUtensorMap map;
  const CUresult status = encode_tiled(&map, kTypes[static_cast<int>(t.type)], t.rank,
                                       const_cast<void*>(t.data), t.extent, t.stride, t.box, t.element_stride,
                                       CU_TENSOR_MAP_INTERLEAVE_NONE, kSwizzles[static_cast<int>(t.swizzle)],
                                       CU_TENSOR_MAP_L2_PROMOTION_L2_128B, kFills[static_cast<int>(t.fill)]);
  return result(status, map);
}

// Corners and element strides go innermost dimension first, like extents.
TensorMap encode(const Im2colTensor& t) {
  require_encodable(t);
  static auto* const encode_im2col =
      driver_function<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const uint32_t element_stride[4] = {1, t.element_stride[0], t.element_stride[1], 1};
  alignas(64) CUtensorMap map;
  const CUresult status =
      encode_im2col(&map, kTypes[static_cast<int>(t.type)], 4, const_cast<void*>(t.data), t.extent, t.stride,
                    t.lower, t.upper, t.channels, t.pixels, element_stride, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    kSwizzles[static_cast<int>(t.swizzle)], CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                    kFills[static_cast<int>(t.fill)]);
  return result(status, map);
}

}  // namespace rk::machine
