// The checked build's view of one core: everything the engine tells it while a block runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checks/clocks.h"
#include "checks/counters.h"
#include "checks/launch_checks.h"
#include "checks/matrix.h"
#include "checks/matrix_reads.h"
#include "checks/shadow.h"
#include "checks/sites.h"
#include "engine/bulk_copy.h"
#include "engine/core.h"
#include "engine/window.h"

namespace rk::sim {

class Checks {
 public:
  explicit Checks(Core& core) : core_(core) {}

  // ---- the engine
  void begin_cluster();
  void end_cluster();
  void completed(const Warp& warp);  // a warp-wide instruction has run: its lanes have met
  void exited(const Warp& warp);     // its last lane has ended

  // ---- memory; each throws a Report
  void global_load(const void* address, uint32_t bytes, bool constant, Site site);
  void global_store(const void* address, uint32_t bytes, Site site);
  void shared_load(uint32_t address, uint32_t bytes, Site site);
  void shared_store(uint32_t address, uint32_t bytes, Site site);
  void cluster_access(uint32_t address, uint32_t bytes, bool write, Site site);
  void matrix_row(Warp& warp, uint32_t row, bool write);
  void matrices(Warp& warp, uint32_t count, SiteKind kind);

  // ---- asynchronous copies
  void issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site);
  void commit_copies();
  void wait_copies(uint32_t pending);
  void issue_bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks, Site site);
  void issue_bulk_store(const BulkCopy& copy, uint32_t shared, Site site);
  void read_for_bulk_copy(uint32_t shared, uint32_t bytes, Site site);
  void commit_bulk_stores();
  void wait_bulk_stores(uint32_t pending);
  // Lets one load land that the schedule has held back; false if there is none.
  bool land_one();

  // ---- wgmma
  void issue_matrix_op(Warp& warp, const MatrixOp& op, const MatrixLanes& lanes);
  void commit_matrix_ops(const Warp& warp);
  void wait_matrix_ops(const Warp& warp, uint32_t pending);
  uint64_t matrix_groups_done(const Warp& warp) const;

  // ---- what orders memory
  void meet(const Warp& warp, uint32_t lanes);        // bar.warp.sync
  void arrive(const Warp& warp, uint32_t barrier);    // bar.arrive and the first half of bar.sync
  void released(const Warp& warp, uint32_t barrier);  // the second half, once per waiting warp
  void barrier_done(const Block& block, uint32_t barrier) { of(block).barriers[barrier] = {}; }
  void arrive_at_cluster(const Warp& warp);
  void cluster_met();                      // all have arrived
  void cluster_awaited(const Warp& warp);  // and this warp has waited for it
  void griddep_awaited();
  void fence_proxy_async() { clocks_.fence(running.lane->thread); }

  // ---- mbarriers
  void mbarrier_created(const MbarrierRef& mbarrier, uint32_t address, Site site);
  void mbarrier_destroyed(const MbarrierRef& mbarrier);
  void mbarrier_arrival(const MbarrierRef& mbarrier);
  void mbarrier_awaited(const MbarrierRef& mbarrier);
  void phase_ended(const MbarrierRef& mbarrier);
  void fence_mbarrier_init();
  void require_initialised(const MbarrierRef& mbarrier, const char* what, Site site);
  // The async proxy, or another block, is about to use it.
  void require_fenced(const MbarrierRef& mbarrier, const char* what, Site site);

  // False where a mutant leaves the instruction out.
  bool enabled(Site site, SiteKind kind) { return !sites_.disabled(sites_.id(site, kind)); }

  void count_macs(uint32_t macs) { tally_.macs += macs; }

 private:
  struct Copy {
    const Block* block;
    uint32_t shared;
    uint32_t bytes;
    const uint8_t* source;
    uint32_t src_bytes;
    uint64_t group;
    SiteId site;
    bool landed;
    uint64_t due;  // the cluster's step at which a randomly completing copy lands
  };
  struct Copies {
    std::vector<Copy> open;  // not waited for, oldest first
    uint64_t groups = 0;     // committed
  };

  struct Target {
    MbarrierRef mbarrier;
    uint32_t phase;  // when the load was started
  };
  struct Load {  // a bulk load on its way
    BulkCopy copy;
    uint32_t shared;
    std::vector<Target> targets;  // one a block
    uint32_t thread;
    SiteId id;
    Site site;
    uint64_t due = 0;
  };
  struct Store {  // a bulk store that was not waited for
    BulkCopy copy;
    uint32_t shared;
    uint64_t group;
    SiteId id;
    Site site;
    bool landed = false;
    uint64_t due = 0;
  };
  struct Stores {
    std::vector<Store> open;
    uint64_t groups = 0;  // committed
  };
  struct MatrixQueue {  // a warp's wgmma, groups counted from 1
    struct Open {
      MatrixOp op;
      uint64_t group;
      uint64_t due;
    };
    std::vector<Open> open;     // not run yet
    uint64_t committed = 0;     // groups
    uint64_t done = 0;          // groups that a wait has guaranteed
    size_t issued = 0;          // instructions
    std::vector<SiteId> sites;  // by group
    uint32_t agent = 0;
  };
  struct Rendezvous {
    Clocks::Meeting meeting;
    Clocks::Vector outcome;
  };
  struct MbarrierState {
    Clocks::Meeting meeting;  // arrivals of the current phase
    Clocks::Vector outcome;   // of the phase before
    uint32_t agent = 0;
    uint32_t owner = 0;        // the thread that initialised it
    uint32_t initialised = 0;  // at which of its clocks
    bool fenced = false;
  };
  struct BlockState {
    Shadow shadow;
    Rendezvous barriers[kBarriers];
    std::vector<MbarrierState> mbarriers;
    MatrixReads matrix_reads;
    std::vector<uint64_t> warpgroup_steps[kMaxWarps / 4];  // what its wgmma were, to compare its warps
    bool dependencies_awaited = false;                     // griddep_wait
  };

  BlockState& of(const Block& block) { return blocks_[block.rank]; }
  Shadow& own_shadow() { return of(core_.block()).shadow; }
  MbarrierState& of(const MbarrierRef& mbarrier) { return of(*mbarrier.block).mbarriers[mbarrier.number]; }

  void land(Copy& copy);
  void land(const Load& load);
  void land(Store& store, const Block& block);
  void land_loads(size_t index);
  void land_due();
  uint64_t draw_due();
  void bulk_row(const BulkRow& row, bool write, SiteId id, const char* what, Site site);
  void require_nothing_open(const Warp& warp);
  void matrix_read(const Warp& warp, uint32_t address, uint32_t group, SiteId id);
  void require_warpgroup(const Warp& warp, const MatrixOp& op, Site site);
  void run_matrix_ops(MatrixQueue& queue, size_t count);
  void require_unread(const Block& block, const Lane& lane, const char* what, uint32_t address,
                      uint32_t bytes, Site site);
  void claim(Buffer& buffer, uint64_t at, uint32_t bytes, const Lane& lane, Site site);
  void require_dependencies(const Buffer& buffer, const char* what, Site site);
  Buffer& require_global(const char* what, const void* address, uint32_t bytes, uint32_t alignment,
                         Site site);
  void require_none(const Conflict& conflict, const Lane& lane, const char* what, Site site);
  uint32_t writer_number(const Lane& lane) const;
  std::string writer_name(uint32_t number) const;
  std::string thread_name(uint32_t thread) const;

  Core& core_;
  LaunchChecks* launch_ = nullptr;
  uint64_t launch_serial_ = 0;
  SiteCache sites_;
  Clocks clocks_;
  std::vector<BlockState> blocks_;          // of the cluster, by rank
  std::vector<Copies> copies_;              // by thread of the cluster
  std::vector<Load> loads_;                 // in the order of their issue
  std::vector<Stores> stores_;              // by thread
  std::vector<MatrixQueue> matrix_queues_;  // by warp
  Rendezvous cluster_;
  uint32_t kernel_before_ = 0;  // the agent of griddep_wait
  uint64_t next_due_ = ~uint64_t{0};
  Coalescer coalescer_;
  Tally tally_;
};

}  // namespace rk::sim
