// Call sites: every instruction of a kernel that the checked build has seen, by file, line and kind. Those
// that only order other instructions (waits, commits, barriers) can be left out at run time: the mutation
// gate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/site.h"

namespace rk::sim {

enum class SiteKind : uint8_t {
  ld_global,
  st_global,
  ld_shared,
  st_shared,
  cp_async,
  ldmatrix,
  stmatrix,
  mbarrier_init,
  bulk_load,
  bulk_store,
  wgmma,
  // From here on: instructions without data, which a mutant leaves out.
  cp_async_commit,
  cp_async_wait,
  warp_sync,
  barrier_sync,
  barrier_arrive,
  mbarrier_arrive,
  mbarrier_expect_tx,
  mbarrier_wait,
  fence_mbarrier_init,
  fence_proxy_async,
  bulk_commit,
  bulk_wait,
  cluster_arrive,
  cluster_wait,
  wgmma_fence,
  wgmma_commit,
  wgmma_wait,
  griddep_wait
};
inline constexpr SiteKind kFirstOrdering = SiteKind::cp_async_commit;

const char* site_kind_name(SiteKind kind);

using SiteId = uint16_t;

struct SiteInfo {
  std::string kernel;
  std::string file;
  uint32_t line;
  SiteKind kind;

  bool operator==(const SiteInfo&) const = default;
};

// All sites of the process, in the order in which they were first executed. Thread-safe.
SiteId register_site(const std::string& kernel, Site site, SiteKind kind);
SiteInfo site_info(SiteId id);
std::vector<SiteInfo> all_sites();
void forget_sites();

// The sites that kernels leave out, known by then or not.
void set_disabled(const SiteInfo& site, bool disabled);
bool is_disabled(const SiteInfo& site);

// One core's sites of the kernel it runs: what register_site answered, without the lock.
class SiteCache {
 public:
  SiteCache();

  // Forgets everything; called when a launch begins on this core.
  void begin(const char* kernel);

  SiteId id(Site site, SiteKind kind) {
    const uint64_t key = (reinterpret_cast<uintptr_t>(site.file) << 24) ^ (uint64_t{site.line} << 5) ^
                         static_cast<uint64_t>(kind) ^ 0x8000000000000000u;
    for (uint64_t at = key * 0x9e3779b97f4a7c15u >> (64 - kBits);; at = (at + 1) & (kSize - 1)) {
      if (entries_[at].key == key) return entries_[at].id;
      if (entries_[at].key == 0) return add(at, key, site, kind);
    }
  }
  bool disabled(SiteId id) const { return disabled_[id]; }

 private:
  static constexpr int kBits = 10;
  static constexpr uint64_t kSize = 1 << kBits;
  struct Entry {
    uint64_t key = 0;
    SiteId id = 0;
  };

  SiteId add(uint64_t at, uint64_t key, Site site, SiteKind kind);

  std::string kernel_;
  std::vector<Entry> entries_;
  uint64_t used_ = 0;
  std::vector<bool> disabled_;
};

}  // namespace rk::sim
