// Small kernels for the tests of the simulator: right ones, and ones with exactly one mistake each. A line
// that a report has to name carries a marker comment, `// @name`.
//
// All take bytes in, bytes out and a number; rk_test_run starts one by name.
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/global.h>
#include <ptx/ldmatrix.h>
#include <ptx/shared.h>
#include <ptx/warp.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace {

using namespace rk::test;

// out[i] = in[i] reversed within tiles of 128 words, `number` tiles a block through one buffer. Each flag
// leaves out one of the four instructions that make it right.
template <bool kCommit, bool kWait, bool kFirstBarrier, bool kSecondBarrier>
struct Reverse : Kernel {
  static constexpr const char* kName = "reverse";
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    const uint32_t slot = ptx::smem_base() + 4 * tid;
    for (uint32_t tile = 0; tile < p.number; ++tile) {
      const uint32_t first = (ptx::ctaid_x() * p.number + tile) * 128;
      ptx::cp_async<4>(slot, p.words() + first + tid, 4);  // @reverse copy
      if (kCommit) ptx::cp_async_commit();
      if (kWait) ptx::cp_async_wait<0>();
      if (kFirstBarrier) ptx::barrier_sync();
      const uint32_t word = ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (127 - tid));  // @reverse read
      ptx::st_global(p.out_words() + first + tid, word);
      if (kSecondBarrier) ptx::barrier_sync();
    }
  }
};

struct Shuffle : Kernel {
  static constexpr const char* kName = "divergent_shuffle";
  static void run(const Params& p) {
    uint32_t value = ptx::lane_id();
    if (value < 16) {
      value = ptx::shfl_xor(value, 1);  // @divergent shuffle 1
    } else {
      value = ptx::shfl_xor(value, 2);  // @divergent shuffle 2
    }
    ptx::st_global(p.out_words() + global_thread(), value);
  }
};

struct DivergentBarrier : Kernel {
  static constexpr const char* kName = "divergent_barrier";
  static void run(const Params&) {
    if (ptx::lane_id() < 31) {
      ptx::barrier_sync();  // @divergent barrier
    } else {
      ptx::warp_sync();  // @divergent sync
    }
  }
};

struct MaskMismatch : Kernel {
  static constexpr const char* kName = "mask_mismatch";
  static void run(const Params&) {
    ptx::warp_sync(ptx::lane_id() < 16 ? 0xffffu : 0xffffffffu);  // @mask mismatch
    ptx::barrier_sync();
  }
};

struct HalfWarps : Kernel {
  static constexpr const char* kName = "half_warps";
  static void run(const Params& p) {
    const uint32_t lane = ptx::lane_id();
    if (lane < 16) {
      for (int i = 0; i < 3; ++i) ptx::warp_sync(0x0000ffffu);
    } else {
      ptx::warp_sync(0xffff0000u);
    }
    ptx::st_global(p.out_words() + global_thread(), ptx::ballot(lane % 2 == 0));
  }
};

struct Deadlock : Kernel {
  static constexpr const char* kName = "deadlock";
  static void run(const Params&) {
    if (ptx::warp_id() == 0) {
      ptx::barrier_sync<1>(64);  // @deadlock 1
    } else {
      ptx::barrier_sync<2>(64);  // @deadlock 2
    }
  }
};

// Warps that have exited no longer count for barrier 0.
struct Exited : Kernel {
  static constexpr const char* kName = "exited";
  static void run(const Params& p) {
    if (ptx::warp_id() >= 2) return;
    ptx::st_shared(ptx::smem_base() + 4 * ptx::tid_x(), ptx::tid_x());
    ptx::barrier_sync();
    ptx::st_global(p.out_words() + ptx::tid_x(),
                   ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (63 - ptx::tid_x())));
  }
};

struct GlobalRead : Kernel {
  static constexpr const char* kName = "global_read";
  static void run(const Params& p) {
    ptx::st_global(p.out_words() + global_thread(),
                   ptx::ld_global(p.words() + global_thread() + p.number));  // @global read
  }
};

struct GlobalWrite : Kernel {
  static constexpr const char* kName = "global_write";
  static void run(const Params& p) {
    ptx::st_global(p.out_words() + global_thread() + p.number, 1u);  // @global write
  }
};

struct CopySource : Kernel {
  static constexpr const char* kName = "copy_source";
  static void run(const Params& p) {
    const uint8_t* source = p.in + 16 * global_thread() + p.number;
    ptx::cp_async<16>(ptx::smem_base() + 16 * ptx::tid_x(), source, 16);  // @copy source
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  }
};

struct WriteInput : Kernel {
  static constexpr const char* kName = "write_input";
  static void run(const Params& p) {
    auto* in = const_cast<uint32_t*>(p.words());
    ptx::st_global(in + global_thread(), 1u);  // @write input
  }
};

struct ReadOutput : Kernel {
  static constexpr const char* kName = "read_output";
  static void run(const Params& p) {
    (void)ptx::ld_global(p.out_words() + global_thread());  // @read output
  }
};

// One access of 4 bytes at offset `number` of the shared memory by thread 0.
struct SharedRead : Kernel {
  static constexpr const char* kName = "shared_read";
  static void run(const Params& p) {
    if (ptx::tid_x() == 0) (void)ptx::ld_shared<uint32_t>(ptx::smem_base() + p.number);  // @shared read
  }
};

struct SharedWrite : Kernel {
  static constexpr const char* kName = "shared_write";
  static void run(const Params& p) {
    if (ptx::tid_x() == 0) ptx::st_shared(ptx::smem_base() + p.number, 1u);  // @shared write
  }
};

// Thread t stores, thread t ^ number loads: in another warp, or in the same.
template <int kBetween>  // 0: nothing, 1: a shuffle, 2: warp_sync, 3: barrier
struct Exchange : Kernel {
  static constexpr const char* kName = "exchange";
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    ptx::st_shared(ptx::smem_base() + 4 * tid, tid);  // @exchange store
    if (kBetween == 1) (void)ptx::shfl_xor(tid, 1);
    if (kBetween == 2) ptx::warp_sync();
    if (kBetween == 3) ptx::barrier_sync();
    const uint32_t word =
        ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (tid ^ p.number));  // @exchange load
    ptx::st_global(p.out_words() + global_thread(), word);
  }
};

struct SharedRace : Kernel {
  static constexpr const char* kName = "shared_race";
  static void run(const Params& p) {
    for (int i = 0; i < 20; ++i) ptx::warp_sync();
    ptx::st_shared(ptx::smem_base(), ptx::tid_x());  // @shared race
    for (int i = 0; i < 20; ++i) ptx::warp_sync();
    if (ptx::tid_x() == 0)
      ptx::st_global(p.out_words() + ptx::ctaid_x(), ptx::ld_shared<uint32_t>(ptx::smem_base()));
  }
};

// Two threads write the halves of one word: no race.
struct Halves : Kernel {
  static constexpr const char* kName = "halves";
  static void run(const Params& p) {
    const uint32_t tid = ptx::tid_x();
    ptx::st_shared(ptx::smem_base() + 2 * tid, static_cast<uint16_t>(tid));
    ptx::barrier_sync();
    ptx::st_global(p.out_words() + tid, ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * (tid / 2)));
  }
};

// Every thread reads one word, then thread 0 overwrites it.
struct ManyReaders : Kernel {
  static constexpr const char* kName = "many_readers";
  static void run(const Params& p) {
    if (ptx::tid_x() == 5) ptx::st_shared(ptx::smem_base(), 7u);
    ptx::barrier_sync();
    const uint32_t word = ptx::ld_shared<uint32_t>(ptx::smem_base());
    ptx::st_global(p.out_words() + ptx::tid_x(), word);
    if (p.number == 1) ptx::barrier_sync();
    if (ptx::tid_x() == 0) ptx::st_shared(ptx::smem_base(), 8u);  // @many readers
  }
};

// Warp 0 fills shared memory and arrives; warp 1 waits and reads.
template <bool kArrive>
struct ProducerConsumer : Kernel {
  static constexpr const char* kName = "producer_consumer";
  static void run(const Params& p) {
    const uint32_t lane = ptx::lane_id();
    if (ptx::warp_id() == 0) {
      if (!kArrive) ptx::barrier_arrive<3>(64);
      ptx::st_shared(ptx::smem_base() + 4 * lane, lane * lane);
      if (kArrive) ptx::barrier_arrive<3>(64);
    } else {
      ptx::barrier_sync<3>(64);
      ptx::st_global(p.out_words() + lane,
                     ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * lane));  // @consumer
    }
  }
};

// Blocks or threads that store to the same word.
struct OutputRace : Kernel {
  static constexpr const char* kName = "output_race";
  static void run(const Params& p) {
    ptx::st_global(p.out_words() + (p.number == 0 ? ptx::tid_x() : global_thread() / 2), 5u);  // @output race
  }
};

// The source of a copy changes between its issue and its wait: who reads it when?
struct LateSource {
  using Params = Bytes;
  static constexpr const char* kName = "late_source";
  static std::array<Span, 1> spans(const Params& p) {
    return {{{p.out, p.out_bytes, Role::partial, "scratch"}}};
  }
  static void run(const Params& p) {
    uint32_t* mine = p.out_words() + 2 * ptx::tid_x();
    ptx::st_global(mine, 1u);
    ptx::cp_async<4>(ptx::smem_base() + 4 * ptx::tid_x(), mine, 4);
    ptx::cp_async_commit();
    ptx::st_global(mine, 2u);
    ptx::cp_async_wait<0>();
    ptx::st_global(mine + 1, ptx::ld_shared<uint32_t>(ptx::smem_base() + 4 * ptx::tid_x()));
  }
};

struct Throws : Kernel {
  static constexpr const char* kName = "throws";
  static void run(const Params& p) {
    ptx::barrier_sync();
    if (ptx::ctaid_x() >= p.number && ptx::tid_x() == 3) {
      throw std::out_of_range("block " + std::to_string(ptx::ctaid_x()));
    }
    ptx::barrier_sync();
  }
};

// ---- kernels whose traffic is known

// Word tid * number of the input, one load and one store a thread.
struct Strided : Kernel {
  static constexpr const char* kName = "strided";
  static void run(const Params& p) {
    ptx::st_global(p.out_words() + global_thread(), ptx::ld_global(p.words() + global_thread() * p.number));
  }
};

// Two loads in a loop at one site, the second of a word that all lanes share.
struct Looped : Kernel {
  static constexpr const char* kName = "looped";
  static void run(const Params& p) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 2; ++i) sum += ptx::ld_global(p.words() + (i == 0 ? ptx::tid_x() : 0));
    ptx::st_global(p.out_words() + global_thread(), sum);
  }
};

template <class T>
struct SharedStrided : Kernel {
  static constexpr const char* kName = "shared_strided";
  static void run(const Params& p) {
    const uint32_t address = ptx::smem_base() + ptx::tid_x() * p.number;
    ptx::st_shared(address, T{});
    (void)ptx::ld_shared<T>(address);
  }
};

// ldmatrix of rows `number` bytes apart.
struct MatrixStrided : Kernel {
  static constexpr const char* kName = "matrix_strided";
  static void run(const Params& p) {
    const uint32_t address = ptx::smem_base() + ptx::tid_x() * p.number;
    ptx::st_shared(address, Words4{});
    ptx::warp_sync();
    uint32_t r[4];
    ptx::ldmatrix_x4(r, address);
  }
};

struct Fill : Kernel {
  static constexpr const char* kName = "fill";
  static void run(const Params& p) {
    ptx::st_global(p.out_words() + global_thread(), global_thread() * p.number);
  }
};

constexpr Entry kEntries[] = {
    {"reverse", rk::machine::launch<Reverse<true, true, true, true>>},
    {"reverse_no_commit", rk::machine::launch<Reverse<false, true, true, true>>},
    {"reverse_no_wait", rk::machine::launch<Reverse<true, false, true, true>>},
    {"reverse_no_first_barrier", rk::machine::launch<Reverse<true, true, false, true>>},
    {"reverse_no_second_barrier", rk::machine::launch<Reverse<true, true, true, false>>},
    {"divergent_shuffle", rk::machine::launch<Shuffle>},
    {"divergent_barrier", rk::machine::launch<DivergentBarrier>},
    {"mask_mismatch", rk::machine::launch<MaskMismatch>},
    {"half_warps", rk::machine::launch<HalfWarps>},
    {"deadlock", rk::machine::launch<Deadlock>},
    {"exited", rk::machine::launch<Exited>},
    {"global_read", rk::machine::launch<GlobalRead>},
    {"global_write", rk::machine::launch<GlobalWrite>},
    {"copy_source", rk::machine::launch<CopySource>},
    {"write_input", rk::machine::launch<WriteInput>},
    {"read_output", rk::machine::launch<ReadOutput>},
    {"shared_read", rk::machine::launch<SharedRead>},
    {"shared_write", rk::machine::launch<SharedWrite>},
    {"exchange", rk::machine::launch<Exchange<0>>},
    {"exchange_shuffle", rk::machine::launch<Exchange<1>>},
    {"exchange_warp_sync", rk::machine::launch<Exchange<2>>},
    {"exchange_barrier", rk::machine::launch<Exchange<3>>},
    {"shared_race", rk::machine::launch<SharedRace>},
    {"halves", rk::machine::launch<Halves>},
    {"many_readers", rk::machine::launch<ManyReaders>},
    {"producer_consumer", rk::machine::launch<ProducerConsumer<true>>},
    {"producer_consumer_early", rk::machine::launch<ProducerConsumer<false>>},
    {"output_race", rk::machine::launch<OutputRace>},
    {"late_source", rk::machine::launch<LateSource>},
    {"throws", rk::machine::launch<Throws>},
    {"strided", rk::machine::launch<Strided>},
    {"looped", rk::machine::launch<Looped>},
    {"shared_strided_4", rk::machine::launch<SharedStrided<uint32_t>>},
    {"shared_strided_8", rk::machine::launch<SharedStrided<Words2>>},
    {"shared_strided_16", rk::machine::launch<SharedStrided<Words4>>},
    {"matrix_strided", rk::machine::launch<MatrixStrided>},
    {"fill", rk::machine::launch<Fill>},
};

}  // namespace

// Runs the named kernel; an empty `error` afterwards means success. Blocks are grouped in clusters of
// `cluster`.
extern "C" __attribute__((visibility("default"))) void rk_test_run(
    const char* name, uint32_t blocks, uint32_t cluster, uint32_t threads, uint32_t smem, uint32_t pdl,
    const void* in, int64_t in_bytes, void* out, int64_t out_bytes, uint32_t number, char* error,
    size_t error_bytes) {
  std::string message = std::string("no kernel is named ") + name;
  std::vector<Entry> entries(std::begin(kEntries), std::end(kEntries));
  const auto more = rk::test::hopper_kernels();
  entries.insert(entries.end(), more.begin(), more.end());
  for (const Entry& entry : entries) {
    if (std::strcmp(entry.name, name) != 0) continue;
    message.clear();
    try {
      entry.start({.grid = {blocks, 1, 1},
                   .cluster = {cluster, 1, 1},
                   .block = threads,
                   .smem = smem,
                   .stream = nullptr,
                   .pdl = pdl != 0},
                  {static_cast<const uint8_t*>(in), in_bytes, static_cast<uint8_t*>(out), out_bytes, number});
    } catch (const std::exception& e) {
      message = e.what();
    }
  }
  message.copy(error, error_bytes - 1);
  error[std::min(message.size(), error_bytes - 1)] = '\0';
}
