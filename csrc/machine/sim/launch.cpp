#include <launch.h>

#include <string>

#include "checks/launch_checks.h"
#include "engine/pool.h"
#include "engine/report.h"

namespace rk::machine {
namespace {

[[noreturn]] void refuse(const sim::LaunchInfo& launch, const std::string& why) {
  throw std::runtime_error(std::string(launch.kernel) + ": launch failed: " + why);
}

// The limits of the CUDA programming guide, appendix "Compute Capabilities".
void validate(const sim::LaunchInfo& launch) {
  const LaunchConfig& config = launch.config;
  if (config.block == 0 || config.block > sim::kMaxThreads) {
    refuse(launch, "a block of " + std::to_string(config.block) + " threads (1 to 1024)");
  }
  if (config.smem > static_cast<uint32_t>(max_shared_memory())) {
    refuse(launch, std::to_string(config.smem) + " bytes of shared memory (at most " +
                       std::to_string(max_shared_memory()) + ")");
  }
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) refuse(launch, "an empty grid");
  if (config.grid.x > 0x7fffffffu || config.grid.y > 65535 || config.grid.z > 65535) {
    refuse(launch, "a grid of " + std::to_string(config.grid.x) + " x " + std::to_string(config.grid.y) +
                       " x " + std::to_string(config.grid.z) + " blocks (at most 2^31 - 1, 65535, 65535)");
  }
  const Dim3& cluster = config.cluster;
  if (cluster.x != 1 || cluster.y != 1 || cluster.z != 1)
    refuse(launch, "clusters need compute capability 9.0");
}

}  // namespace

void run_launch(sim::LaunchInfo launch) {
  validate(launch);
  if constexpr (sim::kChecked) {
    sim::LaunchChecks checks(launch);
    launch.checks = &checks;
    sim::run_grid(launch);
    checks.finish(launch);
  } else {
    sim::run_grid(launch);
  }
}

}  // namespace rk::machine
