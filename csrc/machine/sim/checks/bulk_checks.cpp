// Bulk copies in the checked build. A load lands when the schedule says so, at the latest when nobody can go
// on without it; until its mbarrier's phase has ended and was waited for, its destination belongs to nobody.
// A store reads its source at the wait of the thread that started it.
#include <algorithm>
#include <bit>
#include <cstring>

#include "checks/async.h"
#include "checks/checks.h"
#include "engine/report.h"

namespace rk::sim {
namespace {

Checks& checks() { return running.core->checks(); }

uint64_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

void issue_bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks, Site site) {
  checks().issue_bulk_load(copy, shared, mbarrier, blocks, site);
  running.core->schedule_point();
}
void issue_bulk_store(const BulkCopy& copy, uint32_t shared, Site site) {
  checks().issue_bulk_store(copy, shared, site);
  running.core->schedule_point();
}
void read_for_bulk_copy(uint32_t shared, uint32_t bytes, Site site) {
  checks().read_for_bulk_copy(shared, bytes, site);
}
void commit_bulk_stores(Site site) {
  if (checks().enabled(site, SiteKind::bulk_commit)) checks().commit_bulk_stores();
}
void wait_bulk_stores(uint32_t pending, Site site) {
  if (!checks().enabled(site, SiteKind::bulk_wait)) return;
  checks().wait_bulk_stores(pending);
  running.core->schedule_point();
}

// From the next warp instruction to about a thousand later, small delays as likely as large ones.
uint64_t Checks::draw_due() {
  return core_.steps() + (uint64_t{1} << core_.random().below(11)) + core_.random().below(4);
}

// A row of global memory: in a buffer of the right role, counted.
void Checks::bulk_row(const BulkRow& row, bool write, SiteId id, const char* what, Site site) {
  if (row.valid == 0) return;
  const Lane& lane = *running.lane;
  Buffer& buffer = require_global(what, row.global, row.valid, 1, site);
  require_dependencies(buffer, what, site);
  const uint64_t at = number(row.global);
  if (write) {
    claim(buffer, at, row.valid, lane, site);
  } else if (buffer.written_by_kernel()) {
    for (uint64_t byte = at; byte < at + row.valid; ++byte) {
      if (buffer.writer(byte) == 0)
        report(std::string(what) + " of bytes of " + buffer.span().name + " that nobody has written", site);
    }
  }
  buffer.touch(at, row.valid, write);
  const uint64_t sectors = (at + row.valid - 1) / kSectorBytes - at / kSectorBytes + 1;
  GlobalTraffic& traffic = tally_.global[static_cast<uint32_t>(buffer.span().role)];
  traffic.requested += sectors;
  traffic.useful += row.valid;
  tally_.sites[id].requested += sectors;
  tally_.sites[id].useful += row.valid;
}

void Checks::issue_bulk_load(const BulkCopy& copy, uint32_t shared, uint32_t mbarrier, uint32_t blocks,
                             Site site) {
  const Lane& lane = *running.lane;
  const SiteId id = sites_.id(site, SiteKind::bulk_load);
  ++tally_.sites[id].instructions;
  if (!copy.on_chip) copy.rows([&](const BulkRow& row) { bulk_row(row, false, id, "bulk load", site); });
  Load load = {.copy = copy, .shared = shared, .targets = {}, .thread = lane.thread, .id = id, .site = site};
  for (uint32_t left = blocks; left != 0; left &= left - 1) {
    const auto rank = static_cast<uint32_t>(std::countr_zero(left));
    const MbarrierRef ref = mbarrier_at(mbarrier | (rank + 1) << kRankShift, "bulk load", site);
    require_fenced(ref, "bulk load", site);
    require_none(blocks_[rank].shadow.begin_copy({lane.thread, id, Proxy::async}, shared, copy.bytes,
                                                 launch_->races()),
                 lane, "bulk load", site);
    require_unread(*ref.block, lane, "bulk load", shared, copy.bytes, site);
    load.targets.push_back({ref, ref->phase});
    if (launch_->schedule().completion != Completion::eager)
      std::memset(ref.block->shared + shared, 0xff, copy.bytes);
  }
  switch (launch_->schedule().completion) {
    case Completion::eager: return land(load);
    case Completion::random:
      load.due = draw_due();
      next_due_ = std::min(next_due_, load.due);
      break;
    case Completion::late: break;
  }
  loads_.push_back(std::move(load));
}

void Checks::land(const Load& load) {
  const Lane& lane = core_.lane(load.thread);
  for (const Target& target : load.targets) {
    Block& block = *target.mbarrier.block;
    if (block.live_warps == 0) report(lane, "the bulk load comes after its block has ended", load.site);
    load_box(load.copy, block.shared, load.shared);
    const Mbarrier& mbarrier = *target.mbarrier;
    if (mbarrier.phase != target.phase) {
      report(lane,
             "the phase in which the bulk load was started has ended without it: fewer bytes than it brings "
             "were "
             "expected at the " +
                 describe(mbarrier),
             load.site);
    }
    of(block).shadow.end_copy(load.thread, load.shared, load.copy.bytes, of(target.mbarrier).agent,
                              mbarrier.phase + 1, load.id);
    complete_bytes(target.mbarrier, load.copy.bytes, lane, load.site);
  }
}

void Checks::land_loads(size_t index) {
  const Load load = std::move(loads_[index]);
  loads_.erase(loads_.begin() + static_cast<ptrdiff_t>(index));
  land(load);
}

bool Checks::land_one() {
  if (loads_.empty()) return false;
  const bool random = launch_->schedule().completion == Completion::random;
  land_loads(random ? core_.random().below(static_cast<uint32_t>(loads_.size())) : 0);
  return true;
}

void Checks::issue_bulk_store(const BulkCopy& copy, uint32_t shared, Site site) {
  const Lane& lane = *running.lane;
  const SiteId id = sites_.id(site, SiteKind::bulk_store);
  ++tally_.sites[id].instructions;
  copy.rows([&](const BulkRow& row) {
    bulk_row(row, true, id, "bulk store", site);
    if (row.valid == 0) return;
    require_none(own_shadow().begin_read({lane.thread, id, Proxy::async}, shared + row.offset, row.bytes,
                                         launch_->races()),
                 lane, "bulk store", site);
  });
  Stores& stores = stores_[lane.thread];
  Store store = {.copy = copy, .shared = shared, .group = stores.groups, .id = id, .site = site};
  switch (launch_->schedule().completion) {
    case Completion::eager: land(store, *lane.warp->block); break;
    case Completion::random:
      store.due = draw_due();
      next_due_ = std::min(next_due_, store.due);
      break;
    case Completion::late: break;
  }
  stores.open.push_back(std::move(store));
}

void Checks::land(Store& store, const Block& block) {
  if (!store.landed) store_box(store.copy, block.shared, store.shared);
  store.landed = true;
}

void Checks::commit_bulk_stores() { ++stores_[running.lane->thread].groups; }

void Checks::wait_bulk_stores(uint32_t pending) {
  const Lane& lane = *running.lane;
  Stores& stores = stores_[lane.thread];
  auto store = stores.open.begin();
  for (; store != stores.open.end() && store->group + pending < stores.groups; ++store) {
    land(*store, *lane.warp->block);
    store->copy.rows([&](const BulkRow& row) {
      own_shadow().end_read({lane.thread, store->id}, store->shared + row.offset, row.bytes);
    });
  }
  stores.open.erase(stores.open.begin(), store);
}

void Checks::read_for_bulk_copy(uint32_t shared, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  const SiteId id = sites_.id(site, SiteKind::bulk_load);
  require_none(own_shadow().read({lane.thread, id, Proxy::async}, shared, bytes, launch_->races()), lane,
               "bulk copy", site);
}

// What bulk copies and matrix instructions a warp leaves behind when it ends.
void Checks::require_nothing_open(const Warp& warp) {
  const uint32_t first = warp.lanes[0].thread;
  for (uint32_t thread = first; thread < first + 32 && thread < stores_.size(); ++thread) {
    if (thread - first >= warp.block->threads - 32 * warp.index || stores_[thread].open.empty()) continue;
    report(core_.lane(thread),
           "ends while its bulk store still reads shared memory: bulk_wait_read is missing",
           stores_[thread].open.front().site);
  }
  if (!matrix_queues_[warp.number].open.empty())
    report(warp.lanes[0], "ends while its wgmma runs: wgmma_wait is missing", warp.lanes[0].arrival.site);
  if (warp.block->live_warps != 0) return;
  for (const Load& load : loads_) {
    for (const Target& target : load.targets) {
      if (target.mbarrier.block == warp.block)
        report(core_.lane(load.thread), "the block ends while this bulk load into it is on its way",
               load.site);
    }
  }
  if (core_.launch().config.pdl && !of(*warp.block).dependencies_awaited) {
    report(warp.lanes[0], "a block of a launch with pdl ends without griddep_wait",
           warp.lanes[0].arrival.site);
  }
}

}  // namespace rk::sim
