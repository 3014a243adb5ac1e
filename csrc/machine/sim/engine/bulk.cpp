#include "engine/bulk.h"

#include <bit>
#include <string>

#include "checks/async.h"
#include "engine/report.h"
#include "engine/window.h"

namespace rk::sim {
namespace {

// Tensor copies want 128 bytes, others 16.
void require_box(const char* what, const BulkCopy& copy, uint32_t shared, Site site) {
  if (copy.bytes % 16 != 0 || (!copy.tensor && reinterpret_cast<uintptr_t>(copy.flat) % 16 != 0)) {
    report(std::string(what) + " of " + std::to_string(copy.bytes) +
               " bytes: bytes and addresses are multiples of 16",
           site);
  }
  require_shared_range(what, shared, copy.bytes, copy.tensor ? 128 : 16, site);
}

}  // namespace

void bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks, Site site) {
  require_box("bulk load", copy, shared, site);
  auto& cluster = running.core->blocks();
  if (blocks == 0) blocks = 1u << running.core->block().rank;
  if (blocks >> cluster.size() != 0) {
    report("bulk load for blocks " + hex(blocks) + " of a cluster of " + std::to_string(cluster.size()),
           site);
  }
  if constexpr (kChecked) {
    issue_bulk_load(copy, shared, mbarrier, blocks, site);
    return;
  }
  for (; blocks != 0; blocks &= blocks - 1) {
    const auto rank = static_cast<uint32_t>(std::countr_zero(blocks));
    load_box(copy, cluster[rank].shared, shared);
    const uint32_t there = mbarrier | (rank + 1) << kRankShift;
    complete_bytes(mbarrier_at(there, "bulk load", site), copy.bytes, *running.lane, site);
  }
}

void bulk_store(const BulkCopy& copy, uint32_t shared, Site site) {
  require_box("bulk store", copy, shared, site);
  if constexpr (kChecked) {
    issue_bulk_store(copy, shared, site);
  } else {
    store_box(copy, running.shared, shared);
  }
}

void bulk_copy_cluster(uint32_t there, uint32_t shared, uint32_t bytes, uint32_t mbarrier, Site site) {
  require_shared_range("bulk copy", shared, bytes, 16, site);
  const Block& block = block_of(there, "bulk copy", site);
  if (&block_of(mbarrier, "bulk copy", site) != &block)
    report("bulk copy to one block with the mbarrier of another", site);
  BulkCopy copy = BulkCopy::row(running.shared + shared, bytes);
  copy.on_chip = true;
  if constexpr (kChecked) read_for_bulk_copy(shared, bytes, site);
  bulk_load(copy, local_address(there), local_address(mbarrier), 1u << block.rank, site);
}

void bulk_commit(Site site) {
  if constexpr (kChecked) commit_bulk_stores(site);
}

void bulk_wait(uint32_t pending, Site site) {
  if constexpr (kChecked) wait_bulk_stores(pending, site);
}

}  // namespace rk::sim
