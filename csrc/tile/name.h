// Names of kernel instantiations, joined at compile time: "conv_fprop bf16 128x128".
#pragma once

#include <array>
#include <cstddef>

namespace rk::tile {

template <size_t... kSizes>
constexpr auto join_names(const char (&... parts)[kSizes]) {
  // Each part gives its characters; a space takes the place of its terminating zero, but for the last.
  std::array<char, (kSizes + ...)> joined{};
  size_t end = 0;
  const auto append = [&](const char* part, size_t size) {
    for (size_t i = 0; i + 1 < size; ++i) joined[end++] = part[i];
    joined[end++] = ' ';
  };
  (append(parts, kSizes), ...);
  joined[end - 1] = '\0';
  return joined;
}

}  // namespace rk::tile
