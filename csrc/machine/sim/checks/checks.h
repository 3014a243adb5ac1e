// The checked build's view of one core: everything the engine tells it while a block runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checks/clocks.h"
#include "checks/counters.h"
#include "checks/launch_checks.h"
#include "checks/shadow.h"
#include "checks/sites.h"
#include "engine/core.h"

namespace rk::sim {

class Checks {
 public:
  explicit Checks(Core& core) : core_(core) {}

  // ---- the engine
  void begin_block(uint64_t linear);
  void end_block();
  void completed(const Warp& warp);  // a warp-wide instruction has run: its lanes have met
  void exited(const Warp& warp);     // its last lane has ended

  // ---- memory; each throws a Report
  void global_load(const void* address, uint32_t bytes, bool constant, Site site);
  void global_store(const void* address, uint32_t bytes, Site site);
  void shared_load(uint32_t address, uint32_t bytes, Site site);
  void shared_store(uint32_t address, uint32_t bytes, Site site);
  void matrix_row(Warp& warp, uint32_t row, uint32_t address);
  void matrices(Warp& warp, uint32_t count);

  // ---- asynchronous copies
  void issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site);
  void commit_copies();
  void wait_copies(uint32_t pending);

  // ---- what orders memory
  void meet(const Warp& warp, uint32_t lanes);        // bar.warp.sync
  void arrive(const Warp& warp, uint32_t barrier);    // bar.arrive and the first half of bar.sync
  void released(const Warp& warp, uint32_t barrier);  // the second half, once per waiting warp
  void barrier_done(uint32_t barrier) {
    meetings_[barrier].clear();
    outcomes_[barrier].reset();
  }

  // False where a mutant leaves the instruction out.
  bool enabled(Site site, SiteKind kind) { return !sites_.disabled(sites_.id(site, kind)); }

  void count_macs(uint32_t macs) { tally_.macs += macs; }

 private:
  struct Copy {
    uint32_t shared;
    uint32_t bytes;
    const uint8_t* source;
    uint32_t src_bytes;
    uint64_t group;
    SiteId site;
    bool landed;
    uint64_t due;  // the block's step at which a randomly completing copy lands
  };
  struct Copies {
    std::vector<Copy> open;  // not waited for, oldest first
    uint64_t groups = 0;     // committed
  };

  void land(Copy& copy);
  void land_due();
  void require_shared(const Lane& lane, const char* what, uint32_t address, uint32_t bytes, Site site);
  Buffer& require_global(const char* what, const void* address, uint32_t bytes, uint32_t alignment,
                         Site site);
  void require_none(const Conflict& conflict, const Lane& lane, const char* what, Site site);
  uint32_t writer_number(const Lane& lane) const;
  std::string writer_name(uint32_t number) const;

  Core& core_;
  LaunchChecks* launch_ = nullptr;
  uint64_t launch_serial_ = 0;
  SiteCache sites_;
  Clocks clocks_;
  Shadow shadow_;
  Clocks::Meeting meetings_[kBarriers];
  std::shared_ptr<const Clocks::Vector> outcomes_[kBarriers];
  std::vector<Copies> copies_;  // by thread
  uint64_t next_due_ = ~uint64_t{0};
  Coalescer coalescer_;
  Tally tally_;
};

}  // namespace rk::sim
