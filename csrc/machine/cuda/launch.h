// The one way a kernel starts on the GPU. A kernel is a struct with Params, kName, kThreads, kMinBlocks,
// spans() and run(), and kSmem if it uses shared memory: the most it asks for, in bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "machine/launch_config.h"

namespace rk::machine {

template <class Kernel>
constexpr uint32_t shared_memory() {
  if constexpr (requires { Kernel::kSmem; }) return Kernel::kSmem;
  return 0;
}

// Threads, blocks a multiprocessor and shared memory stand in the name, where tests/lint reads them.
template <class Kernel, uint32_t kThreads, uint32_t kMinBlocks, uint32_t kSmem>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    entry(const __grid_constant__ typename Kernel::Params params) {
  Kernel::run(params);
}

inline void check(cudaError_t status, const char* what, const char* kernel) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(kernel) + ": " + what + " failed: " + cudaGetErrorString(status));
}

// RESNET_KERNELS_PDL=0 starts every kernel after the one before it has ended, to see whether overlap is to
// blame.
inline bool overlap_allowed() {
  static const bool allowed = [] {
    const char* const said = std::getenv("RESNET_KERNELS_PDL");
    if (said == nullptr || std::strcmp(said, "1") == 0) return true;
    if (std::strcmp(said, "0") == 0) return false;
    throw std::runtime_error(std::string("RESNET_KERNELS_PDL is '") + said + "'; it must be 0 or 1");
  }();
  return allowed;
}

// Starts the kernel on config.stream of the current device. Throws std::runtime_error that names the kernel.
template <class Kernel>
void launch(const LaunchConfig& config, const typename Kernel::Params& params) {
  static_cast<void>(&Kernel::spans);  // every kernel states its buffers; only the simulator checks them
  const auto function = entry<Kernel, Kernel::kThreads, Kernel::kMinBlocks, shared_memory<Kernel>()>;
  if (config.smem > 48 * 1024) {
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(config.smem)),
          "reserving shared memory", Kernel::kName);
  }
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (config.cluster.x * config.cluster.y * config.cluster.z > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {config.cluster.x, config.cluster.y, config.cluster.z};
    ++count;
  }
  if (config.pdl && overlap_allowed()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t launch_config = {};
  launch_config.gridDim = dim3(config.grid.x, config.grid.y, config.grid.z);
  launch_config.blockDim = dim3(config.block, 1, 1);
  launch_config.dynamicSmemBytes = config.smem;
  launch_config.stream = static_cast<cudaStream_t>(config.stream);
  launch_config.attrs = attributes;
  launch_config.numAttrs = count;
  check(cudaLaunchKernelEx(&launch_config, function, params), "launch", Kernel::kName);
}

}  // namespace rk::machine
