// The GPU that the simulator stands for: an H200's size, restricted to the instructions of compute
// capability 8.0. Tests make it smaller, so that persistent kernels take several tiles a block.
#include "machine/device.h"

#include <atomic>

#include "engine/device_size.h"

namespace rk::sim {
namespace {
std::atomic<int> multiprocessors = 132;
}

int set_sm_count(int count) { return multiprocessors.exchange(count); }

}  // namespace rk::sim

namespace rk::machine {

int sm_count() { return sim::multiprocessors; }
int compute_capability() { return 80; }
int max_shared_memory() { return 163 * 1024; }

}  // namespace rk::machine
