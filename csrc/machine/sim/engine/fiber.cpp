#include "engine/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

#if RK_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if RK_SIM_UCONTEXT

#include <ucontext.h>

#elif defined(__x86_64__)

// System V ABI: rbx, rbp, r12 to r15 and the stack pointer survive a call. rdi: where to save, rsi: what to
// load.
asm(R"(
  .text
  .p2align 4
  .globl rk_sim_switch
  .hidden rk_sim_switch
  .type rk_sim_switch, @function
rk_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size rk_sim_switch, .-rk_sim_switch
)");

namespace {
void* first_frame(uint8_t* top, void (*entry)()) {
  // Six registers, the address `ret` takes, and eight bytes that put the stack where a call would have left
  // it.
  auto* frame = reinterpret_cast<void**>(top) - 8;
  std::memset(frame, 0, 8 * sizeof(void*));
  frame[6] = reinterpret_cast<void*>(entry);
  return frame;
}
}  // namespace

#elif defined(__aarch64__)

// AAPCS64: x19 to x30, d8 to d15 and the stack pointer survive a call. x0: where to save, x1: what to load.
asm(R"(
  .text
  .p2align 4
  .globl rk_sim_switch
  .hidden rk_sim_switch
  .type rk_sim_switch, %function
rk_sim_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size rk_sim_switch, .-rk_sim_switch
)");

namespace {
void* first_frame(uint8_t* top, void (*entry)()) {
  auto* frame = reinterpret_cast<void**>(top) - 20;
  std::memset(frame, 0, 20 * sizeof(void*));
  frame[11] = reinterpret_cast<void*>(entry);  // x30, the link register
  return frame;
}
}  // namespace

#endif

namespace rk::sim {

#if RK_SIM_UCONTEXT

// Any other processor: the C library's contexts, slower by a system call a switch. Never freed: one a fiber.
void prepare(Fiber& fiber, void (*entry)(), size_t skew) {
  if (fiber.stopped_at == nullptr) fiber.stopped_at = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(fiber.stopped_at);
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack.bottom;
  context->uc_stack.ss_size = fiber.stack.bytes - skew;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}

static void raw_switch(Fiber& from, Fiber& to) {
  if (from.stopped_at == nullptr) from.stopped_at = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.stopped_at), static_cast<ucontext_t*>(to.stopped_at));
}

#else

void prepare(Fiber& fiber, void (*entry)(), size_t skew) {
#if RK_SIM_ASAN
  // The frames of the stack's last user, which never returned, are still marked.
  __asan_unpoison_memory_region(fiber.stack.bottom, fiber.stack.bytes);
#endif
  uint8_t* top = fiber.stack.bottom + fiber.stack.bytes - skew;
  fiber.stopped_at = first_frame(top - reinterpret_cast<uintptr_t>(top) % 16, entry);
}

[[maybe_unused]] static void raw_switch(Fiber& from, Fiber& to) {
  rk_sim_switch(&from.stopped_at, to.stopped_at);
}

#endif

#if RK_SIM_ASAN

void switch_fiber(Fiber& from, Fiber& to) {
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack.bottom, to.stack.bytes);
  raw_switch(from, to);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}

void leave_fiber(Fiber& from, Fiber& to) {
  __sanitizer_start_switch_fiber(nullptr, to.stack.bottom, to.stack.bytes);
  raw_switch(from, to);
  __builtin_unreachable();
}

void started_from(Fiber& from) {
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (from.stack.bottom == nullptr) {
    from.stack = {const_cast<uint8_t*>(static_cast<const uint8_t*>(bottom)), bytes};
  }
}

#else

#if RK_SIM_UCONTEXT
void switch_fiber(Fiber& from, Fiber& to) { raw_switch(from, to); }
#endif

void leave_fiber(Fiber& from, Fiber& to) {
  switch_fiber(from, to);
  __builtin_unreachable();
}

void started_from(Fiber&) {}

#endif

namespace {
constexpr size_t kStackBytes = (RK_SIM_ASAN ? 512 : 128) * size_t{1024};
constexpr size_t kStacksPerMapping = 32;
}  // namespace

Stack StackPool::get(size_t index) {
  while (stacks_.size() <= index) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t stride = kStackBytes + page;
    const size_t bytes = stride * kStacksPerMapping;
    void* address = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED)
      throw std::runtime_error("simulator: no memory for the stacks of a block's threads");
    mappings_.push_back({address, bytes});
    for (size_t i = 0; i < kStacksPerMapping; ++i) {
      uint8_t* bottom = static_cast<uint8_t*>(address) + i * stride + page;
      if (mprotect(bottom, kStackBytes, PROT_READ | PROT_WRITE) != 0) {
        throw std::runtime_error("simulator: mprotect of a fiber's stack failed");
      }
      stacks_.push_back({bottom, kStackBytes});
    }
  }
  return stacks_[index];
}

StackPool::~StackPool() {
  for (const Mapping& mapping : mappings_) munmap(mapping.address, mapping.bytes);
}

}  // namespace rk::sim
