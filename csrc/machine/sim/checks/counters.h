// What a launch moved and how well: the figures that a performance regression changes, without a GPU.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checks/sites.h"
#include "machine/launch_config.h"

namespace rk::sim {

inline constexpr uint32_t kSectorBytes = 32;
inline constexpr uint32_t kRoles = 5;

// Global memory, by role. Sectors are 32 bytes.
struct GlobalTraffic {
  uint64_t unique_read = 0;     // distinct sectors read, over the whole grid
  uint64_t unique_written = 0;  // distinct sectors written
  uint64_t requested = 0;       // distinct sectors of each warp instruction, summed
  uint64_t useful = 0;          // bytes that lanes asked for
};

// Shared memory, of one call site or of the launch. A wavefront serves each of the 32 banks once.
struct SharedTraffic {
  uint64_t instructions = 0;   // warp instructions
  uint64_t wavefronts = 0;     // taken
  uint64_t conflict_free = 0;  // taken if no two lanes of a phase met in a bank

  void operator+=(const SharedTraffic& other) {
    instructions += other.instructions;
    wavefronts += other.wavefronts;
    conflict_free += other.conflict_free;
  }
};

struct SiteTraffic {
  SharedTraffic shared;
  uint64_t instructions = 0;  // global: warp instructions
  uint64_t requested = 0;     // global: sectors
  uint64_t useful = 0;        // global: bytes
};

// The part that a core counts by itself and hands in at the end of each block.
struct Tally {
  std::array<GlobalTraffic, kRoles> global = {};  // unique_* stay 0 here
  std::map<SiteId, SiteTraffic> sites;
  uint64_t macs = 0;   // multiply-adds issued through mma
  uint64_t steps = 0;  // warp-wide instructions

  void add(const Tally& other);
};

// One warp instruction, put together from its lanes' accesses.
struct WarpAccess {
  uint64_t address[32];
  uint8_t bytes[32];
  uint32_t lanes = 0;  // mask
};

// Distinct 32-byte sectors that the instruction asks for.
uint32_t sectors(const WarpAccess& access);

// Wavefronts of a shared access of `size` bytes a lane. 16 bytes go in four phases of 8 lanes, 8 bytes in two
// of 16, less in one of 32; within a phase a bank (4 bytes wide, 32 of them) serves one word at a time, and
// lanes that ask for the same word share it.
SharedTraffic wavefronts(const WarpAccess& access, uint32_t size);

// Puts lanes' accesses together. Between two rendezvous of a warp its lanes run one after another; what a
// lane executes at a site for the n-th time belongs to the same warp instruction as its siblings' n-th time
// there. (Where lanes skip turns of a loop, later turns move up: the figures are then approximate.)
class Coalescer {
 public:
  void begin(uint32_t warps);

  void record(uint32_t warp, uint32_t lane, SiteId site, SiteKind kind, uint32_t role, uint64_t address,
              uint32_t bytes, uint32_t size);

  // The warp has met, or exited: nothing more belongs to what it did so far.
  void flush(uint32_t warp, Tally& tally);

 private:
  struct Pending {
    SiteId site = 0;
    SiteKind kind = SiteKind::ld_global;
    uint32_t size = 0;
    uint32_t turns[32] = {};  // of each lane
    uint32_t used = 0;        // of accesses
    std::vector<WarpAccess> accesses;
    std::vector<uint8_t> roles;
  };
  struct WarpState {
    std::vector<Pending> pending;
    uint32_t used = 0;
    uint32_t latest = 0;  // most recently recorded site, as an index into pending
  };
  Pending& find(WarpState& state, SiteId site, SiteKind kind, uint32_t size);

  std::vector<WarpState> warps_;
};

// A finished launch, as the Python face shows it.
struct LaunchRecord {
  std::string kernel;
  machine::Dim3 grid;
  uint32_t block;
  uint32_t smem;
  std::array<GlobalTraffic, kRoles> global;
  SharedTraffic shared;
  std::vector<std::pair<SiteInfo, SiteTraffic>> sites;
  uint64_t macs;
  uint64_t steps;
};

}  // namespace rk::sim
