#include <ptx/setmaxnreg.h>

#include <bit>
#include <string>

#include "engine/report.h"

namespace ptx {
namespace {

using rk::sim::Lane;
using rk::sim::RegisterPool;
using rk::sim::Warp;

[[noreturn]] void refuse(const Lane& lane, const char* what, uint32_t wanted, uint32_t has) {
  rk::sim::report(lane,
                  std::string(what) + " to " + std::to_string(wanted) + " registers a thread: the warp has " +
                      std::to_string(has),
                  lane.arrival.site);
}

// Gives the warp what it wants if that is there.
bool take(RegisterPool& pool, const Warp& warp, uint32_t wanted) {
  const uint32_t more = 32 * (wanted - pool.of_thread[warp.index]);
  if (more > pool.free) return false;
  pool.free -= more;
  pool.of_thread[warp.index] = wanted;
  return true;
}

void release(Warp& warp, uint32_t group) {
  const Lane& lane = warp.lanes[std::countr_zero(group)];
  RegisterPool& pool = warp.block->registers;
  uint32_t& has = pool.of_thread[warp.index];
  const uint32_t wanted = lane.arrival.operand;
  if (wanted > has) refuse(lane, "setmaxnreg_dec", wanted, has);
  pool.free += 32 * (has - wanted);
  has = wanted;
  uint32_t left = 0;
  for (uint32_t i = 0; i < pool.waiting_count; ++i) {
    if (take(pool, *pool.waiting[i], pool.wanted[i])) {
      pool.waiting[i]->parked = 0;
    } else {
      pool.waiting[left] = pool.waiting[i];
      pool.wanted[left++] = pool.wanted[i];
    }
  }
  pool.waiting_count = left;
}

void request(Warp& warp, uint32_t group) {
  const Lane& lane = warp.lanes[std::countr_zero(group)];
  RegisterPool& pool = warp.block->registers;
  const uint32_t wanted = lane.arrival.operand;
  if (wanted < pool.of_thread[warp.index]) refuse(lane, "setmaxnreg_inc", wanted, pool.of_thread[warp.index]);
  if (take(pool, warp, wanted)) return;
  pool.waiting[pool.waiting_count] = &warp;
  pool.wanted[pool.waiting_count++] = wanted;
  warp.parked = warp.live;
}

}  // namespace

namespace detail {
extern const rk::sim::Operation kSetmaxnregDec = {"setmaxnreg_dec", release};
extern const rk::sim::Operation kSetmaxnregInc = {"setmaxnreg_inc", request};
}  // namespace detail
}  // namespace ptx
