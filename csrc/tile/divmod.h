// Division by a number that is known at launch: multiply and shift instead of some twenty instructions.
// Granlund and Montgomery, "Division by Invariant Integers using Multiplication" (1994), theorem 4.2 with N =
// 31 bits.
#pragma once

#include <cstdint>

namespace rk::tile {

class Divisor {
 public:
  Divisor() = default;

  // 1 <= divisor < 2^31.
  constexpr explicit Divisor(uint32_t divisor) : divisor_(divisor) {
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << (31 + shift_)) + divisor - 1) / divisor);
  }

  // value / divisor for value < 2^31; the remainder goes to `remainder`.
  constexpr uint32_t divide(uint32_t value, uint32_t& remainder) const {
    const auto quotient = static_cast<uint32_t>((uint64_t{value} * multiplier_) >> (31 + shift_));
    remainder = value - quotient * divisor_;
    return quotient;
  }

 private:
  uint32_t divisor_ = 1;
  uint32_t multiplier_ = 0;
  uint32_t shift_ = 0;
};

}  // namespace rk::tile
