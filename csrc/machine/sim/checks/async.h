// Asynchronous copies in the checked build: when they land is up to the schedule, and until the wait that
// guarantees it the destination belongs to nobody.
#pragma once

#include <cstdint>

#include "engine/bulk_copy.h"
#include "engine/core.h"

namespace rk::sim {

void issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site);
void commit_copies(Site site);
void wait_copies(uint32_t pending, Site site);

// Bulk copies (checks/bulk_checks.cpp); `blocks` of the cluster as a mask.
void issue_bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks, Site site);
void issue_bulk_store(const BulkCopy& copy, uint32_t shared, Site site);
void read_for_bulk_copy(uint32_t shared, uint32_t bytes, Site site);
void commit_bulk_stores(Site site);
void wait_bulk_stores(uint32_t pending, Site site);

}  // namespace rk::sim
