#include "checks/sites.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

namespace rk::sim {
namespace {

using Key = std::tuple<std::string, std::string, uint32_t, SiteKind>;

struct Registry {
  std::mutex mutex;
  std::vector<SiteInfo> sites;
  std::map<Key, SiteId> ids;
  std::vector<SiteInfo> disabled;
};

// Never destroyed: sleeping workers may outlive the program's statics.
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

}  // namespace

const char* site_kind_name(SiteKind kind) {
  switch (kind) {
    case SiteKind::ld_global: return "ld_global";
    case SiteKind::st_global: return "st_global";
    case SiteKind::ld_shared: return "ld_shared";
    case SiteKind::st_shared: return "st_shared";
    case SiteKind::cp_async: return "cp_async";
    case SiteKind::ldmatrix: return "ldmatrix";
    case SiteKind::stmatrix: return "stmatrix";
    case SiteKind::mbarrier_init: return "mbarrier_init";
    case SiteKind::bulk_load: return "bulk_load";
    case SiteKind::bulk_store: return "bulk_store";
    case SiteKind::wgmma: return "wgmma";
    case SiteKind::cp_async_commit: return "cp_async_commit";
    case SiteKind::cp_async_wait: return "cp_async_wait";
    case SiteKind::warp_sync: return "warp_sync";
    case SiteKind::barrier_sync: return "barrier_sync";
    case SiteKind::barrier_arrive: return "barrier_arrive";
    case SiteKind::mbarrier_arrive: return "mbarrier_arrive";
    case SiteKind::mbarrier_expect_tx: return "mbarrier_expect_tx";
    case SiteKind::mbarrier_wait: return "mbarrier_wait";
    case SiteKind::fence_mbarrier_init: return "fence_mbarrier_init";
    case SiteKind::fence_proxy_async: return "fence_proxy_async";
    case SiteKind::bulk_commit: return "bulk_commit";
    case SiteKind::bulk_wait: return "bulk_wait";
    case SiteKind::cluster_arrive: return "cluster_arrive";
    case SiteKind::cluster_wait: return "cluster_wait";
    case SiteKind::wgmma_fence: return "wgmma_fence";
    case SiteKind::wgmma_commit: return "wgmma_commit";
    case SiteKind::wgmma_wait: return "wgmma_wait";
    case SiteKind::griddep_wait: return "griddep_wait";
  }
  throw std::logic_error("site_kind_name: unknown kind");
}

SiteId register_site(const std::string& kernel, Site site, SiteKind kind) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto [entry, added] =
      r.ids.try_emplace({kernel, site.file, site.line, kind}, static_cast<SiteId>(r.sites.size()));
  if (added) {
    if (r.sites.size() >= 65535)
      throw std::runtime_error("simulator: more than 65535 call sites; forget_sites() clears them");
    r.sites.push_back({kernel, site.file, site.line, kind});
  }
  return entry->second;
}

SiteInfo site_info(SiteId id) {
  const std::lock_guard lock(registry().mutex);
  return registry().sites.at(id);
}

std::vector<SiteInfo> all_sites() {
  const std::lock_guard lock(registry().mutex);
  return registry().sites;
}

void forget_sites() {
  const std::lock_guard lock(registry().mutex);
  registry().sites.clear();
  registry().ids.clear();
}

void set_disabled(const SiteInfo& site, bool disabled) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::erase(r.disabled, site);
  if (disabled) r.disabled.push_back(site);
}

bool is_disabled(const SiteInfo& site) {
  const std::lock_guard lock(registry().mutex);
  const auto& disabled = registry().disabled;
  return std::find(disabled.begin(), disabled.end(), site) != disabled.end();
}

SiteCache::SiteCache() : entries_(kSize) {}

void SiteCache::begin(const char* kernel) {
  kernel_ = kernel;
  std::fill(entries_.begin(), entries_.end(), Entry{});
  used_ = 0;
  disabled_.clear();
}

SiteId SiteCache::add(uint64_t at, uint64_t key, Site site, SiteKind kind) {
  if (++used_ > kSize / 2)
    throw std::runtime_error(kernel_ + ": more call sites than the simulator keeps track of");
  const SiteId id = register_site(kernel_, site, kind);
  if (disabled_.size() <= id) disabled_.resize(id + 1);
  disabled_[id] = kind >= kFirstOrdering && is_disabled({kernel_, site.file, site.line, kind});
  entries_[at] = {key, id};
  return id;
}

}  // namespace rk::sim
