// Properties of the current GPU that tile choices depend on.
#include "machine/device.h"

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace rk::machine {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorString(status));
}

int attribute(cudaDeviceAttr which) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

int sm_count() { return attribute(cudaDevAttrMultiProcessorCount); }

int compute_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
}

int max_shared_memory() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

}  // namespace rk::machine
