#include "checks/checks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/report.h"

namespace rk::sim {
namespace {

std::string place(SiteId id) {
  const SiteInfo site = site_info(id);
  return site.file + ":" + std::to_string(site.line);
}

uint64_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

// ---- the engine

void Checks::begin_cluster() {
  const LaunchInfo& launch = core_.launch();
  launch_ = launch.checks;
  if (launch_->serial() != launch_serial_) {
    launch_serial_ = launch_->serial();
    sites_.begin(launch.kernel);
  }
  const auto& blocks = core_.blocks();
  const auto threads = static_cast<uint32_t>(blocks.size() * launch.config.block);
  const auto warps = static_cast<uint32_t>(blocks.size()) * blocks[0].warp_count;
  clocks_.begin(threads);
  blocks_.resize(blocks.size());
  for (BlockState& block : blocks_) {
    block.shadow.begin(kSharedBase, launch.config.smem, threads, clocks_);
    for (Rendezvous& barrier : block.barriers) barrier = {};
    block.mbarriers.clear();
    block.matrix_reads.begin(kSharedBase, launch.config.smem, warps);
    for (auto& steps : block.warpgroup_steps) steps.clear();
    block.dependencies_awaited = false;
  }
  kernel_before_ = clocks_.add_agent();
  cluster_ = {};
  loads_.clear();
  stores_.assign(threads, {});
  matrix_queues_.assign(warps, {});
  for (MatrixQueue& queue : matrix_queues_) queue.agent = clocks_.add_agent();
  copies_.resize(threads);
  for (Copies& copies : copies_) {
    copies.open.clear();
    copies.groups = 0;
  }
  next_due_ = ~uint64_t{0};
  coalescer_.begin(warps);
  tally_ = Tally{};
}

void Checks::end_cluster() {
  tally_.steps = core_.steps();
  launch_->add(tally_);
}

void Checks::completed(const Warp& warp) {
  coalescer_.flush(warp.number, tally_);
  if (core_.steps() >= next_due_) land_due();
}

void Checks::exited(const Warp& warp) {
  coalescer_.flush(warp.number, tally_);
  require_nothing_open(warp);
}

// ---- global memory

Buffer& Checks::require_global(const char* what, const void* address, uint32_t bytes, uint32_t alignment,
                               Site site) {
  const uint64_t at = number(address);
  if (at % alignment != 0) {
    report(std::string(what) + " of " + std::to_string(alignment) +
               " bytes at the misaligned global address " + hex(at),
           site);
  }
  Buffer* buffer = launch_->find(at, bytes);
  if (buffer == nullptr) {
    report(std::string(what) + " of " + std::to_string(bytes) + " bytes out of bounds: global address " +
               hex(at) + " is " + launch_->nearest(at),
           site);
  }
  return *buffer;
}

uint32_t Checks::writer_number(const Lane& lane) const {
  return static_cast<uint32_t>(core_.block().linear * core_.block().threads + lane.tid + 1);
}

std::string Checks::writer_name(uint32_t number) const {
  const uint32_t threads = core_.block().threads;
  return "thread " + std::to_string((number - 1) % threads) + " of block " +
         std::to_string((number - 1) / threads);
}

void Checks::global_load(const void* address, uint32_t bytes, bool constant, Site site) {
  const Lane& lane = *running.lane;
  Buffer& buffer = require_global("load", address, bytes, bytes, site);
  require_dependencies(buffer, "load", site);
  const uint64_t at = number(address);
  if (buffer.written_by_kernel()) {
    const uint32_t threads = core_.block().threads;
    for (uint64_t byte = at; byte < at + bytes; ++byte) {
      const uint32_t writer = buffer.writer(byte);
      if (writer == 0)
        report(std::string("load of bytes of ") + buffer.span().name + " that nobody has written", site);
      if (constant)
        report(std::string("ld.global.nc of ") + buffer.span().name + ", which this launch writes", site);
      if ((writer - 1) / threads != (writer_number(lane) - 1) / threads) {
        report(std::string("data race on ") + buffer.span().name + ": loads what " + writer_name(writer) +
                   " has written in the same launch",
               site);
      }
    }
  }
  buffer.touch(at, bytes, false);
  coalescer_.record(lane.warp->number, lane.index, sites_.id(site, SiteKind::ld_global), SiteKind::ld_global,
                    static_cast<uint32_t>(buffer.span().role), at, bytes, bytes);
}

// The lane writes to the buffer, which no other may.
void Checks::claim(Buffer& buffer, uint64_t at, uint32_t bytes, const Lane& lane, Site site) {
  if (!buffer.written_by_kernel()) {
    report(std::string("store to ") + buffer.span().name + ", which is declared read-only (" +
               role_name(buffer.span().role) + ")",
           site);
  }
  if (const uint32_t other = buffer.claim(at, bytes, writer_number(lane))) {
    report(std::string("data race on ") + buffer.span().name + ": stores to bytes, at offset " +
               std::to_string(at - number(buffer.span().data)) + ", that " + writer_name(other) +
               " stores to in the same launch",
           site);
  }
}

// A launch with pdl may begin before the kernels before it have ended: until griddep_wait only weights, which
// no kernel writes, are to be touched.
void Checks::require_dependencies(const Buffer& buffer, const char* what, Site site) {
  if (!core_.launch().config.pdl || buffer.span().role == machine::Role::weight) return;
  if (clocks_.before(kernel_before_, 1, running.lane->thread)) return;
  report(std::string(what) + " of " + buffer.span().name + " before griddep_wait, with pdl", site);
}

void Checks::griddep_awaited() {
  Clocks::Meeting meeting;
  Clocks::release_agent(kernel_before_, 1, meeting);
  clocks_.learn(running.lane->thread, Clocks::outcome(meeting));
  of(core_.block()).dependencies_awaited = true;
}

void Checks::global_store(const void* address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  Buffer& buffer = require_global("store", address, bytes, bytes, site);
  require_dependencies(buffer, "store", site);
  const uint64_t at = number(address);
  claim(buffer, at, bytes, lane, site);
  buffer.touch(at, bytes, true);
  coalescer_.record(lane.warp->number, lane.index, sites_.id(site, SiteKind::st_global), SiteKind::st_global,
                    static_cast<uint32_t>(buffer.span().role), at, bytes, bytes);
}

// ---- shared memory

// How a report speaks of a thread of the cluster.
std::string Checks::thread_name(uint32_t thread) const {
  const uint32_t threads = core_.launch().config.block;
  const std::string name = "thread " + std::to_string(thread % threads);
  return blocks_.size() == 1 ? name : name + " of block rank " + std::to_string(thread / threads);
}

void Checks::require_none(const Conflict& conflict, const Lane& lane, const char* what, Site site) {
  if (!conflict) return;
  const std::string where = " shared memory at offset " + std::to_string(conflict.address - kSharedBase);
  const bool agent = clocks_.is_agent(conflict.thread);
  const auto other = [&] {
    return (agent ? "the " + std::string(site_kind_name(site_info(conflict.site).kind))
                  : thread_name(conflict.thread)) +
           " at " + place(conflict.site);
  };
  const auto text = [&]() -> std::string {
    const std::string access = std::string(what) + " of" + where;
    switch (conflict.kind) {
      case Conflict::uninitialised: return std::string(what) + " of uninitialised" + where;
      case Conflict::unfinished_copy:
        return access + " while the " + site_kind_name(site_info(conflict.site).kind) + " of " + other() +
               " into it is unfinished: that thread has not waited for it";
      case Conflict::unfinished_read:
        return access + " while the " + site_kind_name(site_info(conflict.site).kind) + " of " + other() +
               " still reads it: that thread has not waited for it";
      case Conflict::unordered_write:
        return "data race: " + access + " is not ordered after the write of " + other() +
               (agent ? ": this thread has not waited for its mbarrier" : "");
      case Conflict::unfenced_write:
        return access + " through the async proxy without a fence.proxy.async since the write of " + other();
      case Conflict::unordered_read:
        return "data race: " + access + " is not ordered after the read of " + other();
      case Conflict::mbarrier: return access + ", which is part of the mbarrier of " + other();
      case Conflict::none: break;
    }
    return {};
  };
  report(lane, text(), site);
}

void Checks::shared_load(uint32_t address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  require_shared_range(lane, "load", address, bytes, bytes, site);
  const SiteId id = sites_.id(site, SiteKind::ld_shared);
  require_none(own_shadow().read({lane.thread, id}, address, bytes, launch_->races()), lane, "load", site);
  coalescer_.record(lane.warp->number, lane.index, id, SiteKind::ld_shared, 0, address, bytes, bytes);
}

void Checks::shared_store(uint32_t address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  require_shared_range(lane, "store", address, bytes, bytes, site);
  const SiteId id = sites_.id(site, SiteKind::st_shared);
  require_none(own_shadow().write({lane.thread, id}, address, bytes, launch_->races()), lane, "store", site);
  require_unread(core_.block(), lane, "store", address, bytes, site);
  coalescer_.record(lane.warp->number, lane.index, id, SiteKind::st_shared, 0, address, bytes, bytes);
}

// Another block's memory.
void Checks::cluster_access(uint32_t address, uint32_t bytes, bool write, Site site) {
  const Lane& lane = *running.lane;
  const char* const what = write ? "st_cluster" : "ld_cluster";
  const Block& block = block_of(address, what, site);
  const uint32_t local = local_address(address);
  require_shared_range(lane, what, local, bytes, bytes, site);
  const Accessor by = {lane.thread, sites_.id(site, write ? SiteKind::st_shared : SiteKind::ld_shared)};
  Shadow& shadow = of(block).shadow;
  require_none(write ? shadow.write(by, local, bytes, launch_->races())
                     : shadow.read(by, local, bytes, launch_->races()),
               lane, what, site);
  if (write) require_unread(block, lane, what, local, bytes, site);
}

// ldmatrix and stmatrix: each word of a row belongs to the lane that holds it, or to both that do where they
// share it (.trans): a reader of the row is one of the four lanes of the row's group, and all lanes of the
// warp have to be ordered alike. The row's address stands in the slot of the lane that gives it.
void Checks::matrix_row(Warp& warp, uint32_t row, bool write) {
  const Lane& giver = warp.lanes[row];
  const uint32_t address = warp.slot[row].word[0];
  const Site site = giver.arrival.site;
  const char* const what = write ? "stmatrix" : "ldmatrix";
  require_shared_range(giver, what, address, 16, 16, site);
  const SiteId id = sites_.id(site, write ? SiteKind::stmatrix : SiteKind::ldmatrix);
  Shadow& shadow = own_shadow();
  for (uint32_t word = 0; word < 4; ++word) {
    const Lane& lane = warp.lanes[4 * (row % 8) + word];
    const Accessor by = {lane.thread, id};
    require_none(write ? shadow.write(by, address + 4 * word, 4, launch_->races())
                       : shadow.read(by, address + 4 * word, 4, launch_->races()),
                 lane, what, site);
  }
  if (write) require_unread(*warp.block, giver, what, address, 16, site);
}

void Checks::matrices(Warp& warp, uint32_t count, SiteKind kind) {
  SharedTraffic& traffic = tally_.sites[sites_.id(warp.lanes[0].arrival.site, kind)].shared;
  ++traffic.instructions;
  for (uint32_t m = 0; m < count; ++m) {
    WarpAccess rows = {};
    rows.lanes = 0xff;  // eight rows of 16 bytes: one phase
    for (uint32_t row = 0; row < 8; ++row) rows.address[row] = warp.slot[8 * m + row].word[0];
    const SharedTraffic phase = wavefronts(rows, 16);
    traffic.wavefronts += phase.wavefronts;
    traffic.conflict_free += phase.conflict_free;
  }
}

// ---- asynchronous copies

void Checks::issue_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t src_bytes, Site site) {
  const Lane& lane = *running.lane;
  require_shared_range(lane, "cp.async", shared, bytes, bytes, site);
  if (src_bytes > bytes) {
    report("cp.async of " + std::to_string(bytes) + " bytes with a source of " + std::to_string(src_bytes),
           site);
  }
  const SiteId id = sites_.id(site, SiteKind::cp_async);
  const uint64_t at = number(global);
  if (src_bytes != 0) {
    Buffer& buffer = require_global("cp.async", global, src_bytes, bytes, site);
    require_dependencies(buffer, "cp.async", site);
    if (buffer.written_by_kernel()) {
      for (uint64_t byte = at; byte < at + src_bytes; ++byte) {
        if (buffer.writer(byte) == 0)
          report("cp.async of bytes of " + std::string(buffer.span().name) + " that nobody has written",
                 site);
      }
    }
    buffer.touch(at, src_bytes, false);
    coalescer_.record(lane.warp->number, lane.index, id, SiteKind::cp_async,
                      static_cast<uint32_t>(buffer.span().role), at, src_bytes, bytes);
  } else if (at % bytes != 0) {
    report("cp.async of " + std::to_string(bytes) + " bytes at the misaligned global address " + hex(at),
           site);
  }
  coalescer_.record(lane.warp->number, lane.index, id, SiteKind::st_shared, 0, shared, bytes, bytes);
  require_none(own_shadow().begin_copy({lane.thread, id}, shared, bytes, launch_->races()), lane, "cp.async",
               site);
  require_unread(core_.block(), lane, "cp.async", shared, bytes, site);

  Copies& copies = copies_[lane.thread];
  copies.open.push_back({lane.warp->block, shared, bytes, static_cast<const uint8_t*>(global), src_bytes,
                         copies.groups, id, false, 0});
  Copy& copy = copies.open.back();
  switch (launch_->schedule().completion) {
    case Completion::eager: land(copy); break;
    case Completion::random:
      copy.due = draw_due();
      next_due_ = std::min(next_due_, copy.due);
      [[fallthrough]];
    case Completion::late: std::memset(running.shared + shared, 0xff, bytes); break;
  }
}

void Checks::land(Copy& copy) {
  uint8_t* const destination = copy.block->shared + copy.shared;
  std::memset(destination, 0, copy.bytes);
  if (copy.src_bytes != 0) std::memcpy(destination, copy.source, copy.src_bytes);
  copy.landed = true;
}

// Everything whose time has come.
void Checks::land_due() {
  const uint64_t now = core_.steps();
  next_due_ = ~uint64_t{0};
  const auto is_due = [&](uint64_t due) {
    if (due <= now) return true;
    next_due_ = std::min(next_due_, due);
    return false;
  };
  for (Copies& copies : copies_) {
    for (Copy& copy : copies.open) {
      if (!copy.landed && is_due(copy.due)) land(copy);
    }
  }
  for (uint32_t thread = 0; thread < stores_.size(); ++thread) {
    for (Store& store : stores_[thread].open) {
      if (!store.landed && is_due(store.due)) land(store, *core_.lane(thread).warp->block);
    }
  }
  for (MatrixQueue& queue : matrix_queues_) {
    size_t count = 0;
    for (size_t i = 0; i < queue.open.size(); ++i) {
      if (is_due(queue.open[i].due)) count = i + 1;  // in order: those before it run as well
    }
    if (count != 0) run_matrix_ops(queue, count);
  }
  for (size_t i = 0; i < loads_.size();) {
    if (is_due(loads_[i].due)) {
      land_loads(i);
    } else {
      ++i;
    }
  }
}

void Checks::commit_copies() { ++copies_[running.lane->thread].groups; }

void Checks::wait_copies(uint32_t pending) {
  const uint32_t thread = running.lane->thread;
  Copies& copies = copies_[thread];
  auto copy = copies.open.begin();
  for (; copy != copies.open.end() && copy->group + pending < copies.groups; ++copy) {
    if (!copy->landed) land(*copy);
    own_shadow().end_copy(thread, copy->shared, copy->bytes, thread, clocks_.now(thread), copy->site);
  }
  copies.open.erase(copies.open.begin(), copy);
}

// ---- what orders memory

void Checks::meet(const Warp& warp, uint32_t lanes) {
  Clocks::Meeting meeting;
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    clocks_.release(warp.lanes[std::countr_zero(left)].thread, meeting);
  }
  const auto outcome = Clocks::outcome(meeting);
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    clocks_.acquire(warp.lanes[std::countr_zero(left)].thread, outcome);
  }
}

void Checks::arrive(const Warp& warp, uint32_t barrier) {
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.release(warp.lanes[std::countr_zero(left)].thread, of(*warp.block).barriers[barrier].meeting);
  }
}

void Checks::released(const Warp& warp, uint32_t barrier) {
  Rendezvous& at = of(*warp.block).barriers[barrier];
  if (!at.outcome) at.outcome = Clocks::outcome(at.meeting);
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.acquire(warp.lanes[std::countr_zero(left)].thread, at.outcome);
  }
}

void Checks::arrive_at_cluster(const Warp& warp) {
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.release(warp.lanes[std::countr_zero(left)].thread, cluster_.meeting);
  }
}

void Checks::cluster_met() {
  cluster_.outcome = Clocks::outcome(cluster_.meeting);
  cluster_.meeting.clear();
}

void Checks::cluster_awaited(const Warp& warp) {
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.learn(warp.lanes[std::countr_zero(left)].thread, cluster_.outcome);
  }
}

}  // namespace rk::sim
