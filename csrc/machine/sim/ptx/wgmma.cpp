#include <ptx/wgmma.h>

#include <bit>

#include "checks/ordering.h"

namespace ptx {
namespace {

using rk::sim::MatrixOp;
using rk::sim::Slot;
using rk::sim::Warp;

// Operand of the arrival: lanes that meet must agree on all of it.
uint32_t pack(const detail::WgmmaFlags& flags) {
  return static_cast<uint32_t>(flags.type) | static_cast<uint32_t>(flags.a) << 2 |
         static_cast<uint32_t>(flags.b) << 3 | static_cast<uint32_t>(flags.from_registers) << 4 |
         static_cast<uint32_t>(flags.accumulate) << 5 | flags.n << 8;
}

// A lane's operands, in its slot.
struct Operands {
  float* d;
  rk::sim::WgmmaRegisters* d_state;
  const uint32_t* a_registers;
  rk::sim::WgmmaRegisters* a_state;
  uint64_t a, b;
};
static_assert(sizeof(Operands) <= sizeof(Slot), "a slot holds the operands");

void complete(Warp& warp, uint32_t group) {
  const uint32_t flags = warp.lanes[std::countr_zero(group)].arrival.operand;
  MatrixOp op = {.type = static_cast<MatrixType>(flags & 3),
                 .a_major = static_cast<Major>(flags >> 2 & 1),
                 .b_major = static_cast<Major>(flags >> 3 & 1),
                 .from_registers = (flags >> 4 & 1) != 0,
                 .accumulate = (flags >> 5 & 1) != 0,
                 .n = flags >> 8,
                 .warp = warp.index % 4,
                 .window = warp.block->shared,
                 .a = 0,
                 .b = 0,
                 .d = {},
                 .a_registers = {}};
  rk::sim::MatrixLanes lanes = {};
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Operands operands;
    std::memcpy(&operands, &warp.slot[lane], sizeof operands);
    op.d[lane] = operands.d;
    op.a_registers[lane] = operands.a_registers;
    lanes.d[lane] = operands.d_state;
    lanes.a[lane] = operands.a_state;
    lanes.same &= lane == 0 || (operands.a == op.a && operands.b == op.b);
    op.a = operands.a;
    op.b = operands.b;
  }
  if constexpr (rk::sim::kChecked) {
    rk::sim::count_macs(16 * op.n * rk::machine::k_step(op.type));
    rk::sim::issue_matrix_op(warp, op, lanes);
  } else {
    rk::sim::run_matrix_op(op);
  }
}

}  // namespace

namespace detail {

extern const rk::sim::Operation kWgmma = {"wgmma", complete};

void wgmma(const WgmmaFlags& flags, float* d, rk::sim::WgmmaRegisters& d_state, uint64_t a,
           const uint32_t* a_registers, rk::sim::WgmmaRegisters* a_state, uint64_t b, rk::sim::Site site) {
  const Operands operands = {d, &d_state, a_registers, a_state, a, b};
  std::memcpy(&rk::sim::slot(), &operands, sizeof operands);
  rk::sim::collective(kWgmma, pack(flags), site);
}

}  // namespace detail
}  // namespace ptx
