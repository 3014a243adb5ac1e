#include "engine/report.h"

#include <bit>
#include <cstring>

namespace rk::sim {
namespace {

std::string block_name(const Block& block) {
  return "block (" + std::to_string(block.index.x) + ", " + std::to_string(block.index.y) + ", " +
         std::to_string(block.index.z) + ")";
}

std::string thread_name(const Lane& lane) {
  return std::string(running.core->launch().kernel) + ", " + block_name(*lane.warp->block) + ", thread " +
         std::to_string(lane.tid) + " (warp " + std::to_string(lane.warp->index) + ", lane " +
         std::to_string(lane.index) + ")";
}

bool same(const Arrival& a, const Arrival& b) {
  return a.operation == b.operation && a.mask == b.mask && a.operand == b.operand &&
         a.site.line == b.site.line &&
         (a.site.file == b.site.file || std::strcmp(a.site.file, b.site.file) == 0);
}

// What a parked lane waits for.
std::string waited_for(const Warp& warp, const Arrival& arrival) {
  for (const Mbarrier& mbarrier : warp.block->mbarriers) {
    if (mbarrier.address == arrival.operand) return " for the " + describe(mbarrier);
  }
  return "";
}

// "lanes 0-15 at A; lanes 16-31 at B; lane 3 has exited"
std::string whereabouts(const Warp& warp) {
  std::string text;
  uint32_t left = warp.waiting;
  while (left != 0) {
    const Arrival& arrival = warp.lanes[std::countr_zero(left)].arrival;
    uint32_t together = 0;
    for (uint32_t lanes = left; lanes != 0; lanes &= lanes - 1) {
      const uint32_t lane = static_cast<uint32_t>(std::countr_zero(lanes));
      if (same(arrival, warp.lanes[lane].arrival)) together |= 1u << lane;
    }
    left &= ~together;
    text += (text.empty() ? "" : "; ") + lanes_of(together) + " at " + describe(arrival);
  }
  for (uint32_t parked = warp.parked; parked != 0; parked &= parked - 1) {
    const Arrival& arrival = warp.lanes[std::countr_zero(parked)].arrival;
    uint32_t together = 0;
    for (uint32_t lanes = parked; lanes != 0; lanes &= lanes - 1) {
      const Arrival& other = warp.lanes[std::countr_zero(lanes)].arrival;
      if (other.operand == arrival.operand && other.site.line == arrival.site.line)
        together |= lanes & -lanes;
    }
    parked &= ~together | (together & -together);
    text += (text.empty() ? "" : "; ") + lanes_of(together) + " in " + arrival.operation->name + " at " +
            at(arrival.site) + waited_for(warp, arrival);
  }
  const uint32_t lanes = warp.block->threads - 32 * warp.index;
  const uint32_t exited = ~warp.live & (lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1);
  if (exited != 0) text += (text.empty() ? "" : "; ") + lanes_of(exited) + " exited";
  return text;
}

}  // namespace

std::string at(Site site) {
  return std::string(site.file == nullptr ? "?" : site.file) + ":" + std::to_string(site.line);
}

std::string lanes_of(uint32_t mask) {
  if (mask == 0xffffffffu) return "all lanes";
  std::string text;
  uint32_t count = 0;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    uint32_t last = lane;
    while (last < 31 && (mask >> (last + 1) & 1)) ++last;
    text +=
        (text.empty() ? "" : ", ") + std::to_string(lane) + (last > lane ? "-" + std::to_string(last) : "");
    count += last - lane + 1;
    lane = last;
  }
  return (count == 1 ? "lane " : "lanes ") + text;
}

std::string describe(const Arrival& arrival) {
  std::string text = arrival.operation->name;
  if (arrival.mask != 0xffffffffu) text += " (" + lanes_of(arrival.mask) + ")";
  return text + " at " + at(arrival.site);
}

void report(const std::string& message, Site site) { report(*running.lane, message, site); }

void report(const Lane& lane, const std::string& message, Site site) {
  throw Report(thread_name(lane) + ", " + at(site) + ": " + message);
}

Report named(const Lane& lane, const std::exception& thrown) {
  return Report(thread_name(lane) + ": threw " + thrown.what());
}

void require_agreement(const Warp& warp, uint32_t group) {
  const Arrival& first = warp.lanes[std::countr_zero(group)].arrival;
  for (uint32_t lanes = group; lanes != 0; lanes &= lanes - 1) {
    const Arrival& other = warp.lanes[std::countr_zero(lanes)].arrival;
    const bool agree = kChecked ? same(first, other)
                                : first.operation == other.operation && first.mask == other.mask &&
                                      first.operand == other.operand;
    if (!agree) report_divergence(warp);
  }
}

void report_divergence(const Warp& warp) {
  report("divergent collective: the lanes of a warp wait at different instructions: " + whereabouts(warp),
         running.lane->arrival.site);
}

void report_deadlock(const LaunchInfo& launch, const std::vector<Block>& blocks) {
  std::string text = std::string(launch.kernel) + ", ";
  for (const Block& block : blocks) {
    text += (block.rank == 0 ? "" : "; ") + block_name(block) + (block.rank == 0 ? ": deadlock:" : ":");
    for (uint32_t i = 0; i < block.warp_count; ++i) {
      const Warp& warp = block.warps[i];
      text += (i == 0 ? " warp " : "; warp ") + std::to_string(i) + " ";
      if (warp.live == 0) {
        text += "has exited";
      } else if (warp.blocked) {
        text += "waits in " + describe(warp.arrival);
      } else {
        text += "waits with " + whereabouts(warp);
      }
    }
    for (uint32_t id = 0; id < kBarriers; ++id) {
      const Barrier& barrier = block.barriers[id];
      if (barrier.arrived == 0) continue;
      const uint32_t expected = barrier.expected != 0 ? barrier.expected : 32 * block.live_warps;
      text += "; barrier " + std::to_string(id) + " has " + std::to_string(barrier.arrived) + " of " +
              std::to_string(expected) + " threads";
    }
  }
  throw Report(text);
}

}  // namespace rk::sim
