// Properties of the current GPU that tile choices depend on.
#include <launch.h>

namespace rk::machine {
namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice", "device");
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute", "device");
  return value;
}

}  // namespace

int sm_count() { return attribute(cudaDevAttrMultiProcessorCount); }

int compute_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
}

int max_shared_memory() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

}  // namespace rk::machine
