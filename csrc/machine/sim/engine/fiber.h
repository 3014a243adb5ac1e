// Fibers: a stack and the point where it stopped. A fiber belongs to the OS thread that made it.
//
// The switch saves the registers that a function call preserves and nothing else. All lanes of a warp stop in
// the same instruction, so the return of one switch lands where the processor's return predictor expects it:
// 2 to 3 ns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

// Processors without a switch of their own here use the C library's contexts; defining this asks for them
// anywhere.
#if !defined(RK_SIM_UCONTEXT)
#if defined(__x86_64__) || defined(__aarch64__)
#define RK_SIM_UCONTEXT 0
#else
#define RK_SIM_UCONTEXT 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#define RK_SIM_ASAN 1
#else
#define RK_SIM_ASAN 0
#endif

namespace rk::sim {

struct Stack {
  uint8_t* bottom = nullptr;  // lowest usable byte; the page below it faults
  size_t bytes = 0;
};

// A suspended or running line of execution.
struct Fiber {
  void* stopped_at = nullptr;  // stack pointer (or ucontext_t) while suspended
  Stack stack;                 // empty for the OS thread's own stack until the first switch away from it
  void* fake_stack = nullptr;  // AddressSanitizer's
};

// Prepares `fiber` to run `entry`, which must never return, `skew` bytes below the top of its stack.
// Equal frames at equal offsets of page-aligned stacks would all compete for the same lines of the L1 cache.
void prepare(Fiber& fiber, void (*entry)(), size_t skew);

// Suspends `from`, which is running, and resumes `to`.
void switch_fiber(Fiber& from, Fiber& to);

// As switch_fiber, but `from` never runs again.
[[noreturn]] void leave_fiber(Fiber& from, Fiber& to);

// To be called first thing by `entry`; `from` is the fiber that was left.
void started_from(Fiber& from);

// Stacks of one worker, mapped once and used by every block it runs.
class StackPool {
 public:
  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool();

  Stack get(size_t index);

 private:
  struct Mapping {
    void* address;
    size_t bytes;
  };
  std::vector<Mapping> mappings_;
  std::vector<Stack> stacks_;
};

}  // namespace rk::sim

#if !RK_SIM_UCONTEXT
extern "C" __attribute__((visibility("hidden"))) void rk_sim_switch(void** save, void* load);
#if !RK_SIM_ASAN
inline void rk::sim::switch_fiber(Fiber& from, Fiber& to) { rk_sim_switch(&from.stopped_at, to.stopped_at); }
#endif
#endif
