// mbarrier objects (PTX ISA 9.7.13.15): a phase ends when all its arrivals and all its transaction bytes have
// come; then the next begins with the same number of arrivals.
//
// The eight bytes in shared memory hold a mark and the object's number in its block, so that a barrier that
// was never initialised, or was overwritten, is noticed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/site.h"

namespace rk::sim {

struct Lane;
struct Block;

struct Mbarrier {
  uint32_t address = 0;   // in its block's shared window
  uint32_t expected = 0;  // arrivals a phase
  uint32_t pending = 0;   // arrivals that the current phase still lacks
  int32_t bytes = 0;   // transaction bytes that it still lacks; negative while copies are ahead of expect_tx
  uint32_t phase = 0;  // phases that have ended
  std::vector<Lane*> waiters = {};
};

inline constexpr uint32_t kMbarrierBytes = 8;
inline constexpr uint32_t kMbarrierLimit = (1u << 20) - 1;  // of arrivals, and of transaction bytes

// An mbarrier and the block whose it is.
struct MbarrierRef {
  Block* block;
  uint32_t number;

  Mbarrier& operator*() const;
  Mbarrier* operator->() const { return &**this; }
};

// The object at a shared address of this block or, with its rank, of another. A Report if there is none.
MbarrierRef mbarrier_at(uint32_t address, const char* what, Site site);

void init_mbarrier(uint32_t address, uint32_t arrivals, Site site);
void invalidate_mbarrier(uint32_t address, Site site);
void arrive_at_mbarrier(const MbarrierRef& mbarrier, Site site);
void expect_bytes(const MbarrierRef& mbarrier, uint32_t bytes, Site site);
void complete_bytes(const MbarrierRef& mbarrier, uint32_t bytes, const Lane& issuer, Site site);

// Parks the running lane until the phase of this parity has ended.
void wait_for_phase(const MbarrierRef& mbarrier, uint32_t parity, Site site);

// "mbarrier at offset 64 (phase 3: 1 of 2 arrivals and 4096 bytes missing)"
std::string describe(const Mbarrier& mbarrier);

}  // namespace rk::sim
