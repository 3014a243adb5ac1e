// The hooks of the ptx functions, handed to the running core's checks.
#include "checks/memory.h"

#include "checks/async.h"
#include "checks/checks.h"
#include "checks/ordering.h"

namespace rk::sim {
namespace {
Checks& checks() { return running.core->checks(); }
}  // namespace

void check_global_load(const void* address, uint32_t bytes, bool constant, Site site) {
  checks().global_load(address, bytes, constant, site);
}
void check_global_store(void* address, uint32_t bytes, Site site) {
  checks().global_store(address, bytes, site);
}
void check_shared_load(uint32_t address, uint32_t bytes, Site site) {
  checks().shared_load(address, bytes, site);
}
void check_shared_store(uint32_t address, uint32_t bytes, Site site) {
  checks().shared_store(address, bytes, site);
}

void check_matrices(Warp& warp, uint32_t count) {
  for (uint32_t row = 0; row < 8 * count; ++row) checks().matrix_row(warp, row, warp.slot[row].word[0]);
  checks().matrices(warp, count);
}

void issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site) {
  checks().issue_copy(shared, global, bytes, src_bytes, site);
}
void commit_copies(Site site) {
  if (!checks().enabled(site, SiteKind::cp_async_commit)) return;
  checks().commit_copies();
  running.core->schedule_point();
}
void wait_copies(uint32_t pending, Site site) {
  if (!checks().enabled(site, SiteKind::cp_async_wait)) return;
  checks().wait_copies(pending);
  running.core->schedule_point();
}

bool enabled(Site site, SiteKind kind) { return checks().enabled(site, kind); }
void meet(const Warp& warp, uint32_t lanes) { checks().meet(warp, lanes); }
void count_macs(uint32_t macs) { checks().count_macs(macs); }

}  // namespace rk::sim
