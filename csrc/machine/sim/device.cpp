// The GPU that the simulator stands for: an H200's size, restricted to the instructions of compute
// capability 8.0.
#include "machine/device.h"

namespace rk::machine {

int sm_count() { return 132; }
int compute_capability() { return 80; }
int max_shared_memory() { return 163 * 1024; }

}  // namespace rk::machine
