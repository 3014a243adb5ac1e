// The one way a kernel starts in the simulator. A kernel is a struct with Params, kName, kThreads,
// kMinBlocks, spans() and run(); every thread of every block runs as a fiber, and launch() returns when the
// last has ended.
#pragma once

#include <stdexcept>

#include "engine/core.h"
#include "machine/device.h"
#include "machine/launch_config.h"

namespace rk::machine {

// Runs the launch: validates its geometry, poisons outputs, counts (checked build). Throws
// std::runtime_error.
void run_launch(sim::LaunchInfo launch);

// The kernel's kMinBlocks; kernels of the simulator's own tests have none.
template <class Kernel>
constexpr uint32_t min_blocks() {
  if constexpr (requires { Kernel::kMinBlocks; }) return Kernel::kMinBlocks;
  return 1;
}

// Throws std::runtime_error that names the kernel, and the block, thread and line of a mistake.
template <class Kernel>
void launch(const LaunchConfig& config, const typename Kernel::Params& params) {
  const auto spans = Kernel::spans(params);
  run_launch({.kernel = Kernel::kName,
              .config = config,
              .run = [](const void* p) { Kernel::run(*static_cast<const typename Kernel::Params*>(p)); },
              .params = &params,
              .spans = spans.data(),
              .span_count = static_cast<uint32_t>(spans.size()),
              .min_blocks = min_blocks<Kernel>(),
              .checks = nullptr});
}

}  // namespace rk::machine
