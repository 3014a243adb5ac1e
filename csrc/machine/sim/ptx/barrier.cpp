#include <ptx/barrier.h>

#include <bit>
#include <string>

#include "checks/ordering.h"
#include "engine/report.h"

namespace ptx {
namespace {

using rk::sim::Arrival;
using rk::sim::Warp;

// The operand carries both numbers: lanes that meet must agree on them.
constexpr uint32_t pack(uint32_t id, uint32_t threads) { return id | threads << 8; }

template <bool kWait>
void complete(Warp& warp, uint32_t group) {
  const Arrival& arrival = warp.lanes[std::countr_zero(group)].arrival;
  rk::sim::running.core->arrive_at_barrier(warp, arrival.operand & 0xff, arrival.operand >> 8, kWait);
}

constexpr rk::sim::Operation kSync = {"barrier_sync", complete<true>};
constexpr rk::sim::Operation kArrive = {"barrier_arrive", complete<false>};

void check_count(uint32_t threads, rk::sim::Site site) {
  if (threads == 0 || threads % 32 != 0 || threads > rk::sim::kMaxThreads) {
    rk::sim::report(
        "a barrier of " + std::to_string(threads) + " threads: a multiple of 32 up to 1024 is needed", site);
  }
}

}  // namespace

void barrier_sync_at(uint32_t id, uint32_t threads, rk::sim::Site site) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::enabled(site, rk::sim::SiteKind::barrier_sync)) return;
  }
  if (id != 0) check_count(threads, site);
  rk::sim::collective(kSync, pack(id, threads), site);
}

void barrier_arrive_at(uint32_t id, uint32_t threads, rk::sim::Site site) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::enabled(site, rk::sim::SiteKind::barrier_arrive)) return;
  }
  check_count(threads, site);
  rk::sim::collective(kArrive, pack(id, threads), site);
}

}  // namespace ptx
