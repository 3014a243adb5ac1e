// Asynchronous copies in the checked build: when they land is up to the schedule, and until the wait that
// guarantees it the destination belongs to nobody.
#pragma once

#include <cstdint>

#include "engine/core.h"

namespace rk::sim {

void issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site);
void commit_copies(Site site);
void wait_copies(uint32_t pending, Site site);

}  // namespace rk::sim
