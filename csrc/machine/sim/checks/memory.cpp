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

void check_cluster_load(uint32_t address, uint32_t bytes, Site site) {
  checks().cluster_access(address, bytes, false, site);
}
void check_cluster_store(uint32_t address, uint32_t bytes, Site site) {
  checks().cluster_access(address, bytes, true, site);
}

void check_matrices(Warp& warp, uint32_t count) {
  for (uint32_t row = 0; row < 8 * count; ++row) checks().matrix_row(warp, row, false);
  checks().matrices(warp, count, SiteKind::ldmatrix);
}
void check_matrix_stores(Warp& warp, uint32_t count) {
  for (uint32_t row = 0; row < 8 * count; ++row) checks().matrix_row(warp, row, true);
  checks().matrices(warp, count, SiteKind::stmatrix);
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

void mbarrier_created(const MbarrierRef& mbarrier, uint32_t address, Site site) {
  checks().mbarrier_created(mbarrier, address, site);
}
void mbarrier_destroyed(const MbarrierRef& mbarrier) { checks().mbarrier_destroyed(mbarrier); }
void mbarrier_arrival(const MbarrierRef& mbarrier) { checks().mbarrier_arrival(mbarrier); }
void mbarrier_awaited(const MbarrierRef& mbarrier) { checks().mbarrier_awaited(mbarrier); }
void phase_ended(const MbarrierRef& mbarrier) { checks().phase_ended(mbarrier); }
void require_initialised(const MbarrierRef& mbarrier, const char* what, Site site) {
  checks().require_initialised(mbarrier, what, site);
}
void require_fenced(const MbarrierRef& mbarrier, const char* what, Site site) {
  checks().require_fenced(mbarrier, what, site);
}
void fence_mbarrier_init() { checks().fence_mbarrier_init(); }
void griddep_awaited() { checks().griddep_awaited(); }
void fence_proxy_async() { checks().fence_proxy_async(); }

}  // namespace rk::sim
