// Happens-before among the threads of a block, as vector clocks.
//
// What orders memory (PTX ISA 8, "Memory Consistency Model"): program order; bar.sync and bar.arrive ->
// bar.sync, among the threads of the barrier; bar.warp.sync, among its lanes. What does not: shfl, vote,
// ldmatrix and mma, however convergent they are: the ISA gives them no ordering of memory, so a kernel that
// relies on one races here.
//
// Threads that have met share one immutable vector; each adds its own component. A barrier of T threads costs
// O(T).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace rk::sim {

// A thread's clock advances each time it releases: an access is (thread, clock at the access).
class Clocks {
 public:
  using Vector = std::vector<uint32_t>;

  // What the threads that arrived at a barrier have done so far.
  class Meeting {
   public:
    bool empty() const { return seen_.empty(); }
    void clear() { *this = {}; }

   private:
    friend class Clocks;
    Vector seen_;
    std::shared_ptr<const Vector>
        last_;  // the vector joined most recently: the next thread often has the same
  };

  // All threads start unordered, at clock 1.
  void begin(uint32_t threads) {
    const auto start = std::make_shared<const Vector>(threads, 0);
    threads_.assign(threads, {start, 1});
  }

  uint32_t now(uint32_t thread) const { return threads_[thread].own; }

  // Is what `other` did at its clock `when` ordered before what `thread` does now?
  bool before(uint32_t other, uint32_t when, uint32_t thread) const {
    return other == thread || (*threads_[thread].base)[other] >= when;
  }

  // `thread` releases into the meeting.
  void release(uint32_t thread, Meeting& meeting) {
    Thread& me = threads_[thread];
    if (meeting.seen_.empty()) {
      meeting.seen_ = *me.base;
      meeting.last_ = me.base;
    } else if (meeting.last_ != me.base) {
      const Vector& mine = *me.base;
      for (size_t i = 0; i < mine.size(); ++i) {
        if (mine[i] > meeting.seen_[i]) meeting.seen_[i] = mine[i];
      }
      meeting.last_ = me.base;
    }
    if (me.own > meeting.seen_[thread]) meeting.seen_[thread] = me.own;
    ++me.own;
  }

  // The vector that every thread which waited for the meeting acquires; they all released into it before.
  static std::shared_ptr<const Vector> outcome(const Meeting& meeting) {
    return std::make_shared<const Vector>(meeting.seen_);
  }
  void acquire(uint32_t thread, const std::shared_ptr<const Vector>& outcome) {
    threads_[thread].base = outcome;
  }

 private:
  struct Thread {
    std::shared_ptr<const Vector> base;
    uint32_t own;
  };
  std::vector<Thread> threads_;
};

}  // namespace rk::sim
