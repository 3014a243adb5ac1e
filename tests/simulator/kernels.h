// What all test kernels share: bytes in, bytes out and a number; a table by name.
#pragma once

#include <launch.h>
#include <ptx/ids.h>

#include <array>
#include <cstdint>
#include <span>

namespace rk::test {

using machine::LaunchConfig;
using machine::Role;
using machine::Span;

struct Bytes {
  const uint8_t* in;
  int64_t in_bytes;
  uint8_t* out;
  int64_t out_bytes;
  uint32_t number;

  const uint32_t* words() const { return reinterpret_cast<const uint32_t*>(in); }
  uint32_t* out_words() const { return reinterpret_cast<uint32_t*>(out); }
};

struct Kernel {
  using Params = Bytes;
  static std::array<Span, 2> spans(const Params& p) {
    return {{{p.in, p.in_bytes, Role::activation, "in"}, {p.out, p.out_bytes, Role::output, "out"}}};
  }
};

inline uint32_t global_thread() { return ptx::ctaid_x() * ptx::ntid_x() + ptx::tid_x(); }

struct Entry {
  const char* name;
  void (*start)(const LaunchConfig&, const Bytes&);
};

// The kernels of sm_90 (hopper.cpp).
std::span<const Entry> hopper_kernels();

}  // namespace rk::test
