// wgmma in the checked build: when it runs is up to the schedule; until the wait that guarantees it, its
// registers and the shared memory it reads are not to be touched.
#include <bit>

#include "checks/checks.h"
#include "checks/matrix.h"
#include "engine/report.h"

namespace rk::sim {
namespace {

Checks& checks() { return running.core->checks(); }

constexpr Operation kFence = {"wgmma_fence", [](Warp&, uint32_t) {}};
constexpr Operation kCommit = {"wgmma_commit",
                               [](Warp& warp, uint32_t) { checks().commit_matrix_ops(warp); }};
constexpr Operation kWait = {"wgmma_wait", [](Warp& warp, uint32_t group) {
                               const Arrival& arrival = warp.lanes[std::countr_zero(group)].arrival;
                               checks().wait_matrix_ops(warp, arrival.operand);
                             }};

}  // namespace

void issue_matrix_op(Warp& warp, const MatrixOp& op, const MatrixLanes& lanes) {
  checks().issue_matrix_op(warp, op, lanes);
}

void touch_registers(WgmmaRegisters& registers, Site site) {
  if (registers.in_use) {
    report("touches registers of a wgmma that runs: no wgmma_wait has named them since", site);
  }
  registers.fenced = false;
}

bool wgmma_fence(Site site) {
  if (!checks().enabled(site, SiteKind::wgmma_fence)) return false;
  collective(kFence, 0, site);
  return true;
}

void wgmma_commit(Site site) {
  if (checks().enabled(site, SiteKind::wgmma_commit)) collective(kCommit, 0, site);
}

bool wgmma_wait(uint32_t pending, Site site) {
  if (!checks().enabled(site, SiteKind::wgmma_wait)) return false;
  collective(kWait, pending, site);
  return true;
}

void fence_registers(WgmmaRegisters& registers) { registers.fenced = true; }

void await_registers(WgmmaRegisters& registers) {
  if (registers.group <= checks().matrix_groups_done(*lane().warp)) registers.in_use = false;
}

void Checks::issue_matrix_op(Warp& warp, const MatrixOp& op, const MatrixLanes& lanes) {
  const Lane& first = warp.lanes[0];
  const Site site = first.arrival.site;
  const SiteId id = sites_.id(site, SiteKind::wgmma);
  MatrixQueue& queue = matrix_queues_[warp.number];
  if (!lanes.same) report(first, "wgmma: the lanes of a warp give different descriptors", site);
  require_warpgroup(warp, op, site);
  const uint64_t group = queue.committed + 1;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (WgmmaRegisters* registers : {lanes.d[lane], lanes.a[lane]}) {
      if (registers == nullptr) continue;
      if (!registers->fenced) {
        report(warp.lanes[lane],
               "wgmma uses registers that were touched and that no wgmma_fence has named since", site);
      }
      registers->in_use = true;
      registers->group = group;
    }
  }
  const auto read = [&](uint32_t, uint32_t, uint32_t address) {
    matrix_read(warp, address, static_cast<uint32_t>(group), id);
  };
  if (!op.from_registers) MatrixOperand(op.a).chunks(op.a_major, op.type, 16 * op.warp, 16, read);
  MatrixOperand(op.b).chunks(op.b_major, op.type, 0, op.n, read);
  queue.sites.resize(group + 1);
  queue.sites[group] = id;
  uint64_t due = ~uint64_t{0};
  if (launch_->schedule().completion == Completion::random) {
    due = draw_due();
    next_due_ = std::min(next_due_, due);
  }
  queue.open.push_back({op, group, due});
  if (launch_->schedule().completion == Completion::eager) run_matrix_ops(queue, queue.open.size());
}

// One 16-byte chunk of an operand.
void Checks::matrix_read(const Warp& warp, uint32_t address, uint32_t group, SiteId id) {
  const Lane& lane = warp.lanes[0];
  require_shared_range(lane, "wgmma", address, 16, 16, lane.arrival.site);
  BlockState& block = of(*warp.block);
  require_none(block.shadow.inspect({lane.thread, id, Proxy::async}, address, 16, launch_->races()), lane,
               "wgmma", lane.arrival.site);
  block.matrix_reads.note(address, warp.number, group);
}

// The warps of a warpgroup execute the same instructions with the same operands.
void Checks::require_warpgroup(const Warp& warp, const MatrixOp& op, Site site) {
  std::vector<uint64_t>& steps = of(*warp.block).warpgroup_steps[warp.index / 4];
  MatrixQueue& queue = matrix_queues_[warp.number];
  const uint64_t step = Random(op.a ^ Random(op.b ^ Random(site.line).next()).next()).next();
  if (queue.issued == steps.size()) {
    steps.push_back(step);
  } else if (steps[queue.issued] != step) {
    report(warp.lanes[0], "the warps of a warpgroup execute different wgmma", site);
  }
  ++queue.issued;
}

// The oldest `count` of them.
void Checks::run_matrix_ops(MatrixQueue& queue, size_t count) {
  for (size_t i = 0; i < count; ++i) run_matrix_op(queue.open[i].op);
  queue.open.erase(queue.open.begin(), queue.open.begin() + static_cast<ptrdiff_t>(count));
}

void Checks::commit_matrix_ops(const Warp& warp) { ++matrix_queues_[warp.number].committed; }

void Checks::wait_matrix_ops(const Warp& warp, uint32_t pending) {
  MatrixQueue& queue = matrix_queues_[warp.number];
  if (queue.committed < pending + queue.done) return;
  queue.done = queue.committed - pending;
  size_t count = 0;
  while (count < queue.open.size() && queue.open[count].group <= queue.done) ++count;
  run_matrix_ops(queue, count);
  Clocks::Meeting meeting;
  Clocks::release_agent(queue.agent, static_cast<uint32_t>(queue.done), meeting);
  const auto news = Clocks::outcome(meeting);
  for (uint32_t left = warp.live; left != 0; left &= left - 1) {
    clocks_.learn(warp.lanes[std::countr_zero(left)].thread, news);
  }
}

uint64_t Checks::matrix_groups_done(const Warp& warp) const { return matrix_queues_[warp.number].done; }

// Nothing of [address, address + bytes) may still be read by a matrix instruction.
void Checks::require_unread(const Block& block, const Lane& lane, const char* what, uint32_t address,
                            uint32_t bytes, Site site) {
  if (!launch_->races()) return;
  Conflict conflict;
  conflict.address = of(block).matrix_reads.find(address, bytes, [&](uint32_t warp, uint32_t group) {
    const MatrixQueue& queue = matrix_queues_[warp];
    if (clocks_.before(queue.agent, group, lane.thread)) return false;
    conflict.kind = group > queue.done ? Conflict::unfinished_read : Conflict::unordered_read;
    conflict.thread = queue.agent;
    conflict.site = queue.sites[group];
    return true;
  });
  require_none(conflict, lane, what, site);
}

}  // namespace rk::sim
