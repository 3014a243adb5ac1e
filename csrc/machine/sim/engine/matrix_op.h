// One warp's part of a wgmma: 16 rows of d.
#pragma once

#include <cstdint>

#include "machine/matrix_operand.h"

namespace rk::sim {

// What the checked build knows of a thread's registers that wgmma uses.
struct WgmmaRegisters {
  bool fenced = false;  // wgmma_fence has named them since they were touched
  bool in_use = false;  // a wgmma uses them, and no wgmma_wait has named them since it was done
  uint64_t group = 0;   // of the latest that does, from 1
};

struct MatrixOp {
  machine::MatrixType type;
  machine::Major a_major, b_major;
  bool from_registers;  // a
  bool accumulate;
  uint32_t n;
  uint32_t warp;                    // in its warpgroup
  uint8_t* window;                  // host address of shared address 0
  uint64_t a, b;                    // descriptors
  float* d[32];                     // each lane's accumulators
  const uint32_t* a_registers[32];  // each lane's fragment
};

// A descriptor in parts.
struct MatrixOperand {
  explicit MatrixOperand(uint64_t descriptor)
      : swizzle(static_cast<machine::Swizzle>((4 - (descriptor >> 62)) % 4)),
        start(field(descriptor, 0)),
        leading(field(descriptor, 16)),
        stride(field(descriptor, 32)) {}

  machine::Swizzle swizzle;
  uint32_t start, leading, stride;

  // visit(mn, k, address): sixteen bytes, along k from k on if k-major, else along mn from mn on.
  template <class Visit>
  void chunks(machine::Major major, machine::MatrixType type, uint32_t first, uint32_t count,
              Visit&& visit) const {
    const uint32_t span = machine::span_bytes(swizzle), depth = machine::k_step(type);
    const bool plain = swizzle == machine::Swizzle::none;
    if (major == machine::Major::k) {
      for (uint32_t mn = first; mn < first + count; ++mn) {
        const uint32_t row = start + mn / 8 * stride + mn % 8 * span;
        for (uint32_t half = 0; half < 2; ++half) {
          visit(mn, half * depth / 2, machine::swizzled(swizzle, row + half * (plain ? leading : 16)));
        }
      }
      return;
    }
    const uint32_t per_row = span / 2;  // elements of 16 bits
    const uint32_t mn_step = plain ? stride : leading, k_group = plain ? leading : stride;
    for (uint32_t mn = first; mn < first + count; mn += 8) {
      for (uint32_t k = 0; k < depth; ++k) {
        const uint32_t address =
            start + mn / per_row * mn_step + mn % per_row * 2 + k / 8 * k_group + k % 8 * span;
        visit(mn, k, machine::swizzled(swizzle, address));
      }
    }
  }

 private:
  static uint32_t field(uint64_t descriptor, int bit) {
    return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4;
  }
};

void run_matrix_op(const MatrixOp& op);

}  // namespace rk::sim
