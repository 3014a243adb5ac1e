// Happens-before among the threads of a cluster, as vector clocks.
//
// What orders memory (PTX ISA 8, "Memory Consistency Model"): program order; bar.sync and bar.arrive ->
// bar.sync, among the threads of the barrier; bar.warp.sync, among its lanes; barrier.cluster; an arrival at
// an mbarrier -> a wait for the phase. What does not: shfl, vote, ldmatrix and mma, however convergent they
// are: the ISA gives them no ordering of memory, so a kernel that relies on one races here.
//
// The async proxy (bulk copies, wgmma) sees what generic instructions wrote only with a proxy fence on the
// way from the write to it. So each thread knows two things of every other: up to which clock it is ordered
// before (`seen`), and up to which a proxy fence stands between as well (`fenced`).
//
// Besides threads there are agents, for what runs beside them: an mbarrier, whose clock is its phase; the
// matrix instructions of a warp, whose clock is their group; the kernel before.
//
// Threads that have met share one immutable vector; each adds its own component. A barrier of T threads costs
// O(T).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace rk::sim {

// A thread's clock advances each time it releases: an access is (thread, clock at the access).
class Clocks {
 public:
  struct Knowledge {
    std::vector<uint32_t> seen, fenced;  // by thread or agent; those past the end are 0
  };
  using Vector = std::shared_ptr<const Knowledge>;

  // What the threads that arrived at a barrier have done so far.
  class Meeting {
   public:
    bool empty() const { return !begun_; }
    void clear() { *this = {}; }

   private:
    friend class Clocks;
    bool begun_ = false;
    Knowledge sum_;
    Vector last_;  // the vector joined most recently: the next thread often has the same
  };

  // All threads start unordered, at clock 1; agents at 0.
  void begin(uint32_t threads) {
    auto start = std::make_shared<Knowledge>();
    start->seen.assign(threads, 0);
    threads_.assign(threads, {std::move(start), 1});
    next_agent_ = threads;
    joined_ = {};
  }

  uint32_t add_agent() { return next_agent_++; }
  bool is_agent(uint32_t who) const { return who >= threads_.size(); }

  uint32_t now(uint32_t thread) const { return threads_[thread].own; }

  // Is what `other` did at its clock `when` ordered before what `thread` does now?
  bool before(uint32_t other, uint32_t when, uint32_t thread) const {
    return other == thread || at(threads_[thread].base->seen, other) >= when;
  }

  // And does a proxy fence stand between?
  bool fenced_before(uint32_t other, uint32_t when, uint32_t thread) const {
    return at(threads_[thread].base->fenced, other) >= when;
  }

  // `thread` releases into the meeting.
  void release(uint32_t thread, Meeting& meeting) {
    Thread& me = threads_[thread];
    if (!meeting.begun_) {
      meeting.begun_ = true;
      meeting.sum_ = *me.base;
    } else if (meeting.last_ != me.base) {
      raise(meeting.sum_, *me.base);
    }
    meeting.last_ = me.base;
    uint32_t& seen = meeting.sum_.seen[thread];
    if (me.own > seen) seen = me.own;
    ++me.own;
  }

  // An agent takes part in the meeting with its clock.
  static void release_agent(uint32_t agent, uint32_t clock, Meeting& meeting) {
    meeting.begun_ = true;
    auto& seen = meeting.sum_.seen;
    if (seen.size() <= agent) seen.resize(agent + 1);
    seen[agent] = clock;
  }

  // What every thread that waited for the meeting learns.
  static Vector outcome(const Meeting& meeting) { return std::make_shared<const Knowledge>(meeting.sum_); }

  // For a thread that has itself released into the meeting.
  void acquire(uint32_t thread, const Vector& outcome) { threads_[thread].base = outcome; }

  // For any other thread.
  void learn(uint32_t thread, const Vector& news) {
    Vector& base = threads_[thread].base;
    if (base == news) return;
    if (joined_.base != base || joined_.news != news) {
      auto sum = std::make_shared<Knowledge>(*base);
      const bool changed = raise(*sum, *news);
      joined_ = {base, news, changed ? Vector(std::move(sum)) : base};
    }
    base = joined_.sum;
  }

  // A proxy fence: all that is ordered before it, and what the thread itself did, is fenced.
  void fence(uint32_t thread) {
    Thread& me = threads_[thread];
    auto sum = std::make_shared<Knowledge>();
    sum->seen = me.base->seen;
    sum->fenced = me.base->seen;
    sum->fenced[thread] = me.own++;
    me.base = std::move(sum);
  }

 private:
  struct Thread {
    Vector base;
    uint32_t own;
  };
  struct Joined {
    Vector base, news, sum;
  };

  static uint32_t at(const std::vector<uint32_t>& clocks, uint32_t who) {
    return who < clocks.size() ? clocks[who] : 0;
  }
  static bool raise(std::vector<uint32_t>& to, const std::vector<uint32_t>& from) {
    if (to.size() < from.size()) to.resize(from.size());
    bool changed = false;
    for (size_t i = 0; i < from.size(); ++i) {
      changed |= from[i] > to[i];
      to[i] = from[i] > to[i] ? from[i] : to[i];
    }
    return changed;
  }
  static bool raise(Knowledge& to, const Knowledge& from) {
    const bool seen = raise(to.seen, from.seen);
    return raise(to.fenced, from.fenced) || seen;
  }

  std::vector<Thread> threads_;
  uint32_t next_agent_ = 0;
  Joined joined_;  // the latest join: lanes of a warp often learn the same on top of the same
};

}  // namespace rk::sim
