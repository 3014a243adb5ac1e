#include <ptx/warp.h>

#include <bit>

#include "checks/ordering.h"
#include "engine/report.h"

namespace ptx {
namespace {

using rk::sim::Operation;
using rk::sim::Warp;

// word[0] is the value going in and coming out, word[1] the lane's operand: each lane may ask for another
// source.
template <class Source>
void exchange(Warp& warp, uint32_t group, Source source) {
  uint32_t in[32];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    in[lane] = warp.live >> lane & 1 ? warp.slot[lane].word[0] : 0xffffffffu;
  }
  for (; group != 0; group &= group - 1) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(group));
    warp.slot[lane].word[0] = in[source(lane, warp.slot[lane].word[1]) & 31];
  }
}

void complete_sync(Warp& warp, uint32_t group) {
  if constexpr (rk::sim::kChecked) rk::sim::meet(warp, group);
}
constexpr Operation kWarpSync = {"warp_sync", complete_sync};

constexpr Operation kBallot = {"ballot", [](Warp& warp, uint32_t group) {
                                 uint32_t lanes = 0;
                                 for (uint32_t g = group; g != 0; g &= g - 1) {
                                   const int lane = std::countr_zero(g);
                                   lanes |= warp.slot[lane].word[0] << lane;
                                 }
                                 for (uint32_t g = group; g != 0; g &= g - 1) {
                                   warp.slot[std::countr_zero(g)].word[0] = lanes;
                                 }
                               }};

constexpr Operation kElect = {"elect_one", [](Warp& warp, uint32_t group) {
                                for (uint32_t lane = 0; lane < 32; ++lane) {
                                  warp.slot[lane].word[0] =
                                      lane == static_cast<uint32_t>(std::countr_zero(group));
                                }
                              }};

}  // namespace

namespace detail {

extern const Operation kShflXor = {"shfl_xor", [](Warp& warp, uint32_t group) {
                                     exchange(warp, group,
                                              [](uint32_t lane, uint32_t mask) { return lane ^ mask; });
                                   }};
extern const Operation kShflDown = {"shfl_down", [](Warp& warp, uint32_t group) {
                                      exchange(warp, group, [](uint32_t lane, uint32_t delta) {
                                        return lane + (delta & 31) < 32 ? lane + (delta & 31) : lane;
                                      });
                                    }};
extern const Operation kShflUp = {"shfl_up", [](Warp& warp, uint32_t group) {
                                    exchange(warp, group, [](uint32_t lane, uint32_t delta) {
                                      return lane >= (delta & 31) ? lane - (delta & 31) : lane;
                                    });
                                  }};
extern const Operation kShflIdx = {"shfl_idx", [](Warp& warp, uint32_t group) {
                                     exchange(warp, group, [](uint32_t, uint32_t source) { return source; });
                                   }};

uint32_t shuffle(const Operation& operation, uint32_t word, uint32_t operand, rk::sim::Site site) {
  rk::sim::Slot& slot = rk::sim::slot();
  slot.word[0] = word;
  slot.word[1] = operand;
  rk::sim::collective(operation, 0, site);
  return slot.word[0];
}

}  // namespace detail

void warp_sync(uint32_t mask, rk::sim::Site site) {
  if constexpr (rk::sim::kChecked) {
    if (!rk::sim::enabled(site, rk::sim::SiteKind::warp_sync)) return;
    if (!(mask >> rk::sim::lane().index & 1))
      rk::sim::report("warp_sync with a mask that lacks the lane itself", site);
  }
  rk::sim::running.core->arrive({&kWarpSync, mask, 0, site});
}

uint32_t ballot(bool predicate, rk::sim::Site site) {
  rk::sim::Slot& slot = rk::sim::slot();
  slot.word[0] = predicate;
  rk::sim::collective(kBallot, 0, site);
  return slot.word[0];
}

bool elect_one(rk::sim::Site site) {
  rk::sim::collective(kElect, 0, site);
  return rk::sim::slot().word[0] != 0;
}

}  // namespace ptx
