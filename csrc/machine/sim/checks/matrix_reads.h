// Which warps' matrix instructions have read which 16 bytes of a block's shared memory: the group of the
// latest, by chunk and warp. Kept only for blocks that use wgmma.
#pragma once

#include <cstdint>
#include <vector>

namespace rk::sim {

class MatrixReads {
 public:
  // A cluster begins.
  void begin(uint32_t base, uint32_t bytes, uint32_t warps) {
    base_ = base;
    bytes_ = bytes;
    warps_ = warps;
    groups_.clear();
  }

  void note(uint32_t address, uint32_t warp, uint32_t group) {
    if (groups_.empty()) groups_.resize(size_t{(bytes_ + 15) / 16} * warps_);
    groups_[(address - base_) / 16 * warps_ + warp] = group;
  }

  // unordered(warp, group): true if a write must not follow. Returns the address of the first such chunk, or
  // 0.
  template <class Unordered>
  uint32_t find(uint32_t address, uint32_t bytes, Unordered&& unordered) const {
    if (groups_.empty()) return 0;
    for (uint32_t at = address & ~15u; at < address + bytes; at += 16) {
      const uint32_t* const chunk = &groups_[(at - base_) / 16 * warps_];
      for (uint32_t warp = 0; warp < warps_; ++warp) {
        if (chunk[warp] != 0 && unordered(warp, chunk[warp])) return at;
      }
    }
    return 0;
  }

 private:
  uint32_t base_ = 0, bytes_ = 0, warps_ = 0;
  std::vector<uint32_t> groups_;
};

}  // namespace rk::sim
