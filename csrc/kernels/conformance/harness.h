// What every primitive's kernel is made of: words in, words out, and a table of them by name.
#pragma once

#include <array>
#include <cstdint>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/griddepcontrol.h>
#include <ptx/ids.h>

#include "api.h"
#include "machine/launch_config.h"

namespace rk::conformance_kernels {

struct Buffers {
  const uint32_t* in;
  uint32_t* out;
};

struct Entry {
  const char* name;
  int64_t in_words, out_words;
  void (*run)(const Buffers& buffers, Stream stream);
};

template <class Primitive>
concept ReadsGlobal = requires { &Primitive::apply_at; };

template <class Primitive>
struct ConformanceKernel {
  using Params = Buffers;
  static constexpr const char* kName = "conformance";
  static constexpr uint32_t kThreads = Primitive::kThreads;
  static constexpr uint32_t kMinBlocks = 1;
  static constexpr int64_t kTotalThreads = int64_t{kThreads} * Primitive::kBlocks;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.in, kTotalThreads * Primitive::kIn * 4, Role::activation, "x"},
             {p.out, kTotalThreads * Primitive::kOut * 4, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    if constexpr (Primitive::kPdl) ptx::griddep_wait();
    const uint32_t thread = ptx::ctaid_x() * kThreads + ptx::tid_x();
    const uint32_t* mine = p.in + int64_t{thread} * Primitive::kIn;
    uint32_t in[Primitive::kIn];
    uint32_t out[Primitive::kOut] = {};
    for (uint32_t i = 0; i < Primitive::kIn; ++i) in[i] = ptx::ld_global(mine + i);
    if constexpr (ReadsGlobal<Primitive>) {
      Primitive::apply_at(mine, in, out);
    } else {
      Primitive::apply(in, out);
    }
    for (uint32_t i = 0; i < Primitive::kOut; ++i) {
      ptx::st_global(p.out + int64_t{thread} * Primitive::kOut + i, out[i]);
    }
  }
};

template <class Kernel>
void start(uint32_t blocks, uint32_t cluster, uint32_t smem, const typename Kernel::Params& params,
           Stream stream, bool pdl = false) {
  machine::launch<Kernel>({.grid = {blocks, 1, 1},
                           .cluster = {cluster, 1, 1},
                           .block = Kernel::kThreads,
                           .smem = smem,
                           .stream = stream,
                           .pdl = pdl},
                          params);
}

template <class Primitive>
constexpr Entry entry(const char* name) {
  using Kernel = ConformanceKernel<Primitive>;
  return {name, Kernel::kTotalThreads * Primitive::kIn, Kernel::kTotalThreads * Primitive::kOut,
          [](const Buffers& buffers, Stream stream) {
            start<Kernel>(Primitive::kBlocks, Primitive::kCluster, Primitive::kSmem, buffers, stream,
                          Primitive::kPdl);
          }};
}

// Of a kernel that takes kInWords and gives kOutWords in one block.
template <class Kernel>
constexpr Entry words_entry(const char* name) {
  return {name, Kernel::kInWords, Kernel::kOutWords,
          [](const Buffers& buffers, Stream stream) { start<Kernel>(1, 1, Kernel::kSmem, buffers, stream); }};
}

// The primitives of sm_90 (kernels/conformance/sm90/); false if it has none of this name.
bool find_sm90(const char* primitive, Entry& found);

}  // namespace rk::conformance_kernels
