// The GPU that the simulator stands for: an H200. Tests make it smaller, so that persistent kernels take
// several tiles a block, and older, so that they run the kernels of older GPUs.
#include "machine/device.h"

#include <atomic>

#include "engine/device_size.h"

namespace rk::sim {
namespace {
std::atomic<int> multiprocessors = 132;
std::atomic<int> capability = 90;
}  // namespace

int set_sm_count(int count) { return multiprocessors.exchange(count); }
int set_compute_capability(int value) { return capability.exchange(value); }

}  // namespace rk::sim

namespace rk::machine {

int sm_count() { return sim::multiprocessors; }
int compute_capability() { return sim::capability; }
int max_shared_memory() { return (sim::capability >= 90 ? 227 : 163) * 1024; }

}  // namespace rk::machine
