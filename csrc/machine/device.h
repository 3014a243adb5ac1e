// Properties of the machine that tile choices depend on. The simulator answers as an H200 would.
#pragma once

namespace rk::machine {

int sm_count();            // streaming multiprocessors of the current device
int compute_capability();  // 80, 90, ...
int max_shared_memory();   // bytes of shared memory that one block may ask for

}  // namespace rk::machine
