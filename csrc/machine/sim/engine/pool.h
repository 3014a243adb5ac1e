// Worker threads that run the clusters of a launch. The launching thread works too, as worker 0.
#pragma once

#include <cstdint>

#include "engine/core.h"

namespace rk::sim {

// Runs every cluster of the launch and returns when all have ended. Launches of several threads take turns.
// The error of the lowest failing cluster is thrown, whatever the number of workers.
void run_grid(const LaunchInfo& launch);

// How many threads share the work; 0 asks for one per processor.
void set_workers(uint32_t count);
uint32_t workers();

}  // namespace rk::sim
