// Hooks of the instructions that order others and of those that are only counted; checked build only.
#pragma once

#include <cstdint>

#include "checks/sites.h"
#include "engine/core.h"

namespace rk::sim {

// False where a mutant leaves the instruction out.
bool enabled(Site site, SiteKind kind);

// bar.warp.sync of `lanes`: what each did before is ordered before what the others do after.
void meet(const Warp& warp, uint32_t lanes);

void count_macs(uint32_t macs);

}  // namespace rk::sim
