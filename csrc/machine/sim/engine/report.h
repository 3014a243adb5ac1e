// What the simulator says when a kernel does wrong: an exception that names the kernel, the block, the thread
// and the line.
#pragma once

#include <stdexcept>
#include <string>

#include "engine/core.h"

namespace rk::sim {

struct Report : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws a Report about the running lane: "kernel, block (x, y, z), thread t, file:line: message".
[[noreturn]] void report(const std::string& message, Site site);
[[noreturn]] void report(const Lane& lane, const std::string& message, Site site);

// What a kernel's own exception becomes: "kernel, block (x, y, z), thread t: threw ...".
Report named(const Lane& lane, const std::exception& thrown);

std::string at(Site site);                     // "file:line"
std::string lanes_of(uint32_t mask);           // "lanes 0-15, 17"
std::string describe(const Arrival& arrival);  // "shfl_xor (all lanes) at file:line"

// Lanes of `group` that meet must be at the same instruction with the same mask and operands.
void require_agreement(const Warp& warp, uint32_t group);

// No lane of this warp can go on, and only its own lanes could set it free.
[[noreturn]] void report_divergence(const Warp& warp);

// Nobody in the cluster can go on: who waits for what, where.
[[noreturn]] void report_deadlock(const LaunchInfo& launch, const std::vector<Block>& blocks);

}  // namespace rk::sim
