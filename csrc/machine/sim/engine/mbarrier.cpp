#include "engine/mbarrier.h"

#include <cstring>

#include "checks/ordering.h"
#include "engine/report.h"
#include "engine/window.h"

namespace rk::sim {
namespace {

struct Word {
  uint32_t mark;
  uint32_t number;
};
constexpr uint32_t kMark = 0x6d626172;  // "mbar"

Word load(const Block& block, uint32_t address) {
  Word word;
  std::memcpy(&word, block.shared + address, sizeof word);
  return word;
}

// Ends the phase if it lacks nothing.
void advance(const MbarrierRef& ref) {
  Mbarrier& mbarrier = *ref;
  if (mbarrier.pending != 0 || mbarrier.bytes != 0) return;
  ++mbarrier.phase;
  mbarrier.pending = mbarrier.expected;
  if constexpr (kChecked) phase_ended(ref);
  for (Lane* lane : mbarrier.waiters) running.core->unpark(*lane);
  mbarrier.waiters.clear();
}

constexpr Operation kWait = {"mbarrier_wait", nullptr};

}  // namespace

Mbarrier& MbarrierRef::operator*() const { return block->mbarriers[number]; }

MbarrierRef mbarrier_at(uint32_t address, const char* what, Site site) {
  Block& block = block_of(address, what, site);
  const uint32_t local = local_address(address);
  require_shared_range(what, local, kMbarrierBytes, kMbarrierBytes, site);
  const Word word = load(block, local);
  if (word.mark != kMark || word.number >= block.mbarriers.size() ||
      block.mbarriers[word.number].address != local) {
    report(std::string(what) + ": no mbarrier was initialised at offset " +
               std::to_string(local - kSharedBase) + " of shared memory" +
               (word.mark == kMark ? "" : ", or it was overwritten"),
           site);
  }
  return {&block, word.number};
}

void init_mbarrier(uint32_t address, uint32_t arrivals, Site site) {
  Block& block = running.core->block();
  require_shared_range("mbarrier_init", address, kMbarrierBytes, kMbarrierBytes, site);
  if (arrivals == 0 || arrivals > kMbarrierLimit) {
    report("mbarrier_init with " + std::to_string(arrivals) + " arrivals: 1 to 2^20 - 1 are possible", site);
  }
  const auto number = static_cast<uint32_t>(block.mbarriers.size());
  if constexpr (kChecked) {
    if (load(block, address).mark == kMark)
      report("mbarrier_init over a living mbarrier: it needs mbarrier_inval first", site);
    mbarrier_created({&block, number}, address, site);
  }
  const Word word = {kMark, number};
  std::memcpy(block.shared + address, &word, sizeof word);
  block.mbarriers.push_back({.address = address, .expected = arrivals, .pending = arrivals});
}

void invalidate_mbarrier(uint32_t address, Site site) {
  const MbarrierRef ref = mbarrier_at(address, "mbarrier_inval", site);
  if (!ref->waiters.empty()) report("mbarrier_inval while threads wait at it", site);
  if constexpr (kChecked) mbarrier_destroyed(ref);
  ref->address = 0;
  std::memset(ref.block->shared + address, 0xff, kMbarrierBytes);
}

void arrive_at_mbarrier(const MbarrierRef& ref, Site site) {
  if (ref->pending == 0) {
    report("one arrival too many: all " + std::to_string(ref->expected) + " of this phase have come at the " +
               describe(*ref),
           site);
  }
  if constexpr (kChecked) mbarrier_arrival(ref);
  --ref->pending;
  if (ref->pending == 0 && ref->bytes < 0) {
    report("the copies bring " + std::to_string(-ref->bytes) + " bytes more than were expected at the " +
               describe(*ref),
           site);
  }
  advance(ref);
}

void expect_bytes(const MbarrierRef& ref, uint32_t bytes, Site site) {
  if (bytes > kMbarrierLimit || ref->bytes + static_cast<int64_t>(bytes) > kMbarrierLimit) {
    report("mbarrier expects " + std::to_string(ref->bytes + static_cast<int64_t>(bytes)) +
               " bytes in one phase: at most 2^20 - 1 are possible",
           site);
  }
  ref->bytes += static_cast<int32_t>(bytes);
}

void complete_bytes(const MbarrierRef& ref, uint32_t bytes, const Lane& issuer, Site site) {
  ref->bytes -= static_cast<int32_t>(bytes);
  if (ref->bytes < 0 && (ref->pending == 0 || ref->bytes < -static_cast<int32_t>(kMbarrierLimit))) {
    report(issuer,
           "the copies bring " + std::to_string(-ref->bytes) + " bytes more than were expected at the " +
               describe(*ref),
           site);
  }
  advance(ref);
}

void wait_for_phase(const MbarrierRef& ref, uint32_t parity, Site site) {
  if (parity > 1) report("mbarrier_wait for parity " + std::to_string(parity) + ": it is 0 or 1", site);
  if (ref->phase % 2 == parity) {
    ref->waiters.push_back(running.lane);
    running.core->park({&kWait, 1u << running.lane->index, ref->address, site});
  } else if constexpr (kChecked) {
    running.core->schedule_point();
  }
  if constexpr (kChecked) mbarrier_awaited(ref);
}

std::string describe(const Mbarrier& mbarrier) {
  return "mbarrier at offset " + std::to_string(mbarrier.address - kSharedBase) + " (phase " +
         std::to_string(mbarrier.phase) + ": " + std::to_string(mbarrier.pending) + " of " +
         std::to_string(mbarrier.expected) + " arrivals and " + std::to_string(mbarrier.bytes) +
         " bytes missing)";
}

}  // namespace rk::sim
