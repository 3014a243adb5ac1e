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

void validate_cluster(const sim::LaunchInfo& launch) {
  const Dim3 &cluster = launch.config.cluster, &grid = launch.config.grid;
  const uint64_t blocks = uint64_t{cluster.x} * cluster.y * cluster.z;
  if (blocks == 1) return;
  const std::string what = "clusters of " + std::to_string(cluster.x) + " x " + std::to_string(cluster.y) +
                           " x " + std::to_string(cluster.z) + " blocks";
  if (compute_capability() < 90) refuse(launch, what + " need compute capability 9.0");
  if (blocks == 0 || blocks > 8) refuse(launch, what + " (1 to 8 blocks)");
  if (grid.x % cluster.x != 0 || grid.y % cluster.y != 0 || grid.z % cluster.z != 0)
    refuse(launch, what + " do not divide the grid");
  if (blocks * ((launch.config.block + 31) / 32) > sim::kMaxClusterWarps)
    refuse(launch, what + " have more than the 64 warps that the simulator keeps apart");
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
  validate_cluster(launch);
  if (config.pdl && compute_capability() < 90) {
    refuse(launch, "programmatic dependent launch needs compute capability 9.0");
  }
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
