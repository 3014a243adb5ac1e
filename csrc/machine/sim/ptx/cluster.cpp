#include <ptx/cluster.h>

#include "checks/ordering.h"

namespace ptx {
namespace {

using rk::sim::Warp;

constexpr rk::sim::Operation kArrive = {
    "cluster_arrive", [](Warp& warp, uint32_t) { rk::sim::running.core->arrive_at_cluster(warp); }};
constexpr rk::sim::Operation kWait = {
    "cluster_wait", [](Warp& warp, uint32_t) { rk::sim::running.core->wait_for_cluster(warp); }};

}  // namespace

void cluster_arrive(rk::sim::Site site) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::enabled(site, rk::sim::SiteKind::cluster_arrive)) return;
  }
  rk::sim::collective(kArrive, 0, site);
}

void cluster_wait(rk::sim::Site site) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::enabled(site, rk::sim::SiteKind::cluster_wait)) return;
  }
  rk::sim::collective(kWait, 0, site);
}

}  // namespace ptx
