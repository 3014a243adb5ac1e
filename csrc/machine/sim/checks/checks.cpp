#include "checks/checks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/report.h"

namespace rk::sim {
namespace {

std::string hex(uint64_t value) {
  static const char* const digits = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), digits[value % 16]);
    value /= 16;
  } while (value != 0);
  return "0x" + text;
}

std::string place(SiteId id) {
  const SiteInfo site = site_info(id);
  return site.file + ":" + std::to_string(site.line);
}

uint64_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

// ---- the engine

void Checks::begin_block(uint64_t) {
  const LaunchInfo& launch = core_.launch();
  const Block& block = core_.block();
  launch_ = launch.checks;
  if (launch_->serial() != launch_serial_) {
    launch_serial_ = launch_->serial();
    sites_.begin(launch.kernel);
  }
  clocks_.begin(block.threads);
  shadow_.begin(kSharedBase, launch.config.smem, block.threads, clocks_);
  for (uint32_t id = 0; id < kBarriers; ++id) {
    meetings_[id].clear();
    outcomes_[id].reset();
  }
  copies_.resize(block.threads);
  for (Copies& copies : copies_) {
    copies.open.clear();
    copies.groups = 0;
  }
  next_due_ = ~uint64_t{0};
  coalescer_.begin(block.warp_count);
  tally_ = Tally{};
}

void Checks::end_block() {
  tally_.steps = core_.block().steps;
  launch_->add(tally_);
}

void Checks::completed(const Warp& warp) {
  coalescer_.flush(warp.index, tally_);
  if (core_.block().steps >= next_due_) land_due();
}

void Checks::exited(const Warp& warp) { coalescer_.flush(warp.index, tally_); }

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
  coalescer_.record(lane.warp->index, lane.index, sites_.id(site, SiteKind::ld_global), SiteKind::ld_global,
                    static_cast<uint32_t>(buffer.span().role), at, bytes, bytes);
}

void Checks::global_store(const void* address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  Buffer& buffer = require_global("store", address, bytes, bytes, site);
  const uint64_t at = number(address);
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
  buffer.touch(at, bytes, true);
  coalescer_.record(lane.warp->index, lane.index, sites_.id(site, SiteKind::st_global), SiteKind::st_global,
                    static_cast<uint32_t>(buffer.span().role), at, bytes, bytes);
}

// ---- shared memory

void Checks::require_shared(const Lane& lane, const char* what, uint32_t address, uint32_t bytes, Site site) {
  if (address % bytes != 0) {
    report(lane,
           std::string(what) + " of " + std::to_string(bytes) + " bytes at the misaligned shared address " +
               hex(address),
           site);
  }
  const uint32_t smem = core_.launch().config.smem;
  if (address < kSharedBase || uint64_t{address} - kSharedBase + bytes > smem) {
    report(lane,
           std::string(what) + " of " + std::to_string(bytes) + " bytes out of bounds: offset " +
               std::to_string(int64_t{address} - kSharedBase) + " of " + std::to_string(smem) +
               " bytes of shared memory",
           site);
  }
}

void Checks::require_none(const Conflict& conflict, const Lane& lane, const char* what, Site site) {
  if (!conflict) return;
  const std::string where = " shared memory at offset " + std::to_string(conflict.address - kSharedBase);
  const auto other = [&] {
    return "thread " + std::to_string(conflict.thread) + " at " + place(conflict.site);
  };
  switch (conflict.kind) {
    case Conflict::uninitialised: report(lane, std::string(what) + " of uninitialised" + where, site);
    case Conflict::unfinished_copy:
      report(lane,
             std::string(what) + " of" + where + " while the cp.async of " + other() +
                 " into it is unfinished: " + "that thread has not waited for it",
             site);
    case Conflict::unordered_write:
      report(
          lane,
          "data race: " + std::string(what) + " of" + where + " is not ordered after the write of " + other(),
          site);
    case Conflict::unordered_read:
      report(
          lane,
          "data race: " + std::string(what) + " of" + where + " is not ordered after the read of " + other(),
          site);
    case Conflict::none: break;
  }
}

void Checks::shared_load(uint32_t address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  require_shared(lane, "load", address, bytes, site);
  const SiteId id = sites_.id(site, SiteKind::ld_shared);
  require_none(shadow_.read(lane.tid, address, bytes, id, launch_->races()), lane, "load", site);
  coalescer_.record(lane.warp->index, lane.index, id, SiteKind::ld_shared, 0, address, bytes, bytes);
}

void Checks::shared_store(uint32_t address, uint32_t bytes, Site site) {
  const Lane& lane = *running.lane;
  require_shared(lane, "store", address, bytes, site);
  const SiteId id = sites_.id(site, SiteKind::st_shared);
  require_none(shadow_.write(lane.tid, address, bytes, id, launch_->races()), lane, "store", site);
  coalescer_.record(lane.warp->index, lane.index, id, SiteKind::st_shared, 0, address, bytes, bytes);
}

// ldmatrix: each word of a row is read by the lane that receives it, or by both that do where they share it
// (.trans): a reader of the row is one of the four lanes of the row's group, and all lanes of the warp have
// to be ordered alike.
void Checks::matrix_row(Warp& warp, uint32_t row, uint32_t address) {
  const Lane& giver = warp.lanes[row];
  const Site site = giver.arrival.site;
  require_shared(giver, "ldmatrix", address, 16, site);
  const SiteId id = sites_.id(site, SiteKind::ldmatrix);
  for (uint32_t word = 0; word < 4; ++word) {
    const Lane& reader = warp.lanes[4 * (row % 8) + word];
    require_none(shadow_.read(reader.tid, address + 4 * word, 4, id, launch_->races()), reader, "ldmatrix",
                 site);
  }
}

void Checks::matrices(Warp& warp, uint32_t count) {
  SharedTraffic& traffic = tally_.sites[sites_.id(warp.lanes[0].arrival.site, SiteKind::ldmatrix)].shared;
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
  require_shared(lane, "cp.async", shared, bytes, site);
  if (src_bytes > bytes) {
    report("cp.async of " + std::to_string(bytes) + " bytes with a source of " + std::to_string(src_bytes),
           site);
  }
  const SiteId id = sites_.id(site, SiteKind::cp_async);
  const uint64_t at = number(global);
  if (src_bytes != 0) {
    Buffer& buffer = require_global("cp.async", global, src_bytes, bytes, site);
    if (buffer.written_by_kernel()) {
      for (uint64_t byte = at; byte < at + src_bytes; ++byte) {
        if (buffer.writer(byte) == 0)
          report("cp.async of bytes of " + std::string(buffer.span().name) + " that nobody has written",
                 site);
      }
    }
    buffer.touch(at, src_bytes, false);
    coalescer_.record(lane.warp->index, lane.index, id, SiteKind::cp_async,
                      static_cast<uint32_t>(buffer.span().role), at, src_bytes, bytes);
  } else if (at % bytes != 0) {
    report("cp.async of " + std::to_string(bytes) + " bytes at the misaligned global address " + hex(at),
           site);
  }
  coalescer_.record(lane.warp->index, lane.index, id, SiteKind::st_shared, 0, shared, bytes, bytes);
  require_none(shadow_.begin_copy(lane.tid, shared, bytes, id, launch_->races()), lane, "cp.async", site);

  Copies& copies = copies_[lane.tid];
  copies.open.push_back(
      {shared, bytes, static_cast<const uint8_t*>(global), src_bytes, copies.groups, id, false, 0});
  Copy& copy = copies.open.back();
  switch (launch_->schedule().completion) {
    case Completion::eager: land(copy); break;
    case Completion::random:
      // From the next warp instruction to about a thousand later, small delays as likely as large ones.
      copy.due = core_.block().steps + (uint64_t{1} << core_.random().below(11)) + core_.random().below(4);
      next_due_ = std::min(next_due_, copy.due);
      [[fallthrough]];
    case Completion::late: std::memset(running.shared + shared, 0xff, bytes); break;
  }
}

void Checks::land(Copy& copy) {
  std::memset(running.shared + copy.shared, 0, copy.bytes);
  if (copy.src_bytes != 0) std::memcpy(running.shared + copy.shared, copy.source, copy.src_bytes);
  copy.landed = true;
}

void Checks::land_due() {
  const uint64_t now = core_.block().steps;
  next_due_ = ~uint64_t{0};
  for (Copies& copies : copies_) {
    for (Copy& copy : copies.open) {
      if (copy.landed) continue;
      if (copy.due <= now) {
        land(copy);
      } else {
        next_due_ = std::min(next_due_, copy.due);
      }
    }
  }
}

void Checks::commit_copies() { ++copies_[running.lane->tid].groups; }

void Checks::wait_copies(uint32_t pending) {
  const uint32_t thread = running.lane->tid;
  Copies& copies = copies_[thread];
  auto copy = copies.open.begin();
  for (; copy != copies.open.end() && copy->group + pending < copies.groups; ++copy) {
    if (!copy->landed) land(*copy);
    shadow_.end_copy(thread, copy->shared, copy->bytes, copy->site);
  }
  copies.open.erase(copies.open.begin(), copy);
}

// ---- what orders memory

void Checks::meet(const Warp& warp, uint32_t lanes) {
  Clocks::Meeting meeting;
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    clocks_.release(warp.lanes[std::countr_zero(left)].tid, meeting);
  }
  const auto outcome = Clocks::outcome(meeting);
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    clocks_.acquire(warp.lanes[std::countr_zero(left)].tid, outcome);
  }
}

void Checks::arrive(const Warp& warp, uint32_t barrier) {
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.release(warp.lanes[std::countr_zero(left)].tid, meetings_[barrier]);
  }
}

void Checks::released(const Warp& warp, uint32_t barrier) {
  if (!outcomes_[barrier]) outcomes_[barrier] = Clocks::outcome(meetings_[barrier]);
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.acquire(warp.lanes[std::countr_zero(left)].tid, outcomes_[barrier]);
  }
}

}  // namespace rk::sim
