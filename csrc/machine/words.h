// Eight and sixteen bytes of untyped data: the widths in which global and shared memory are moved.
#pragma once

#include <cstdint>

struct alignas(8) Words2 {
  uint32_t word[2];
};

struct alignas(16) Words4 {
  uint32_t word[4];
};
