// Where in the kernel's source an instruction stands: the default argument of every ptx function.
#pragma once

#include <cstdint>

#ifndef RK_SIM_CHECKED
#define RK_SIM_CHECKED 0
#endif

namespace rk::sim {

// The checked build counts, checks and can leave out instructions; the fast build only runs them.
inline constexpr bool kChecked = RK_SIM_CHECKED != 0;

struct Site {
  const char* file;
  uint32_t line;

  // As a default argument this names the caller of the function that has it.
  static constexpr Site here(const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace rk::sim
