// Bulk copies on their way: at once in the fast build, when the schedule says so in the checked one.
#pragma once

#include <cstdint>

#include "engine/bulk_copy.h"
#include "engine/site.h"

namespace rk::sim {

// Into shared memory of the blocks of a mask, 0 for the running lane's own, arriving at their mbarriers.
void bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks, Site site);

// Out of the running lane's block's shared memory.
void bulk_store(const BulkCopy& copy, uint32_t shared, Site site);

// From this block's shared memory to that of the block which `there` and `mbarrier` name.
void bulk_copy_cluster(uint32_t there, uint32_t shared, uint32_t bytes, uint32_t mbarrier, Site site);

void bulk_commit(Site site);
void bulk_wait(uint32_t pending, Site site);

}  // namespace rk::sim
