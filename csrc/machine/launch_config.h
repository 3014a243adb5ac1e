// What a launch says about itself, on both machines.
#pragma once

#include <cstdint>

#include "api.h"

namespace rk::machine {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

// blocks: `grid` counts blocks, `cluster` groups them; block and smem are threads and bytes of dynamic shared
// memory.
struct LaunchConfig {
  Dim3 grid = {};
  Dim3 cluster = {};
  uint32_t block = 0;
  uint32_t smem = 0;
  Stream stream = nullptr;
  // Programmatic dependent launch: may start before the previous kernel has ended. Until ptx::griddep_wait
  // such a kernel touches nothing but weights.
  bool pdl = false;
};

// What a global buffer is to a kernel: the simulator checks accesses against it and counts traffic by it.
enum class Role : uint8_t {
  activation,  // read: x, residual
  weight,      // read: weights
  vector,      // read: per-channel scale, shift, mean, var
  output,      // written
  partial      // written and read: workspaces
};

struct Span {
  const void* data;  // null: absent
  int64_t bytes;
  Role role;
  const char* name;
};

}  // namespace rk::machine
