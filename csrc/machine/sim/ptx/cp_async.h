// cp.async and its groups (PTX ISA 9.7.9.25.3): copies from global to shared memory that run beside the
// threads.
#pragma once

#include <cstdint>
#include <cstring>

#include <ptx/target.h>

#include "checks/async.h"
#include "engine/core.h"

namespace ptx {

// Copies src_bytes and fills up to kBytes with zeros; src_bytes = 0 reads nothing. Both addresses are aligned
// to kBytes.
template <int kBytes>
RK_DEVICE void cp_async(uint32_t shared, const void* global, uint32_t src_bytes,
                        rk::sim::Site site = rk::sim::Site::here()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async moves 4, 8 or 16 bytes");
  if constexpr (rk::sim::kChecked) {
    rk::sim::issue_copy(shared, global, kBytes, src_bytes, site);
  } else {
    uint8_t* destination = rk::sim::running.shared + shared;
    if (src_bytes == kBytes) {
      std::memcpy(destination, global, kBytes);
    } else {
      std::memset(destination, 0, kBytes);
      if (src_bytes != 0) std::memcpy(destination, global, src_bytes);
    }
  }
}

RK_DEVICE void cp_async_commit(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) rk::sim::commit_copies(site);
}

// Waits until at most kPending of this thread's newest groups are unfinished. Other threads see the data
// after a barrier.
template <int kPending>
RK_DEVICE void cp_async_wait(rk::sim::Site site = rk::sim::Site::here()) {
  if constexpr (rk::sim::kChecked) rk::sim::wait_copies(kPending, site);
}

}  // namespace ptx
