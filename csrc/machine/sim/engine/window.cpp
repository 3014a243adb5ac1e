#include "engine/window.h"

#include "engine/report.h"

namespace rk::sim {

std::string hex(uint64_t value) {
  static const char* const digits = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), digits[value % 16]);
    value /= 16;
  } while (value != 0);
  return "0x" + text;
}

Block& block_of(uint32_t address, const char* what, Site site) {
  const uint32_t rank = address >> kRankShift;
  if (rank == 0) return running.core->block();
  auto& blocks = running.core->blocks();
  if (rank > blocks.size()) {
    report(std::string(what) + " in block " + std::to_string(rank - 1) + " of a cluster of " +
               std::to_string(blocks.size()),
           site);
  }
  if (blocks[rank - 1].live_warps == 0) {
    report(std::string(what) + " in block " + std::to_string(rank - 1) + " of the cluster, which has ended",
           site);
  }
  return blocks[rank - 1];
}

void require_shared_range(const Lane& lane, const char* what, uint32_t address, uint64_t bytes,
                          uint32_t alignment, Site site) {
  if (address % alignment != 0) {
    report(lane,
           std::string(what) + " of " + std::to_string(bytes) + " bytes at the misaligned shared address " +
               hex(address),
           site);
  }
  const uint32_t smem = running.core->launch().config.smem;
  if (address < kSharedBase || uint64_t{address} - kSharedBase + bytes > smem) {
    report(lane,
           std::string(what) + " of " + std::to_string(bytes) + " bytes out of bounds: offset " +
               std::to_string(int64_t{address} - kSharedBase) + " of " + std::to_string(smem) +
               " bytes of shared memory",
           site);
  }
}

}  // namespace rk::sim
