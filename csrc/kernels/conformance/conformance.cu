// y = primitive(x), one instruction of the machine on raw words: what the tests compare between the two
// machines.
//
// x holds kIn words for each thread of the grid, y kOut; thread t of block b owns words (b kThreads + t) kIn
// and on. The global_* primitives move the same words by loads and stores of one width.
#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "api.h"
#include "kernels/conformance/harness.h"
#include "kernels/conformance/primitives.h"

namespace rk {
namespace {

using conformance_kernels::Buffers;
using conformance_kernels::entry;
using conformance_kernels::Entry;
using conformance_kernels::start;

// 16 bytes a thread by loads and stores of T.
template <class T, bool kConstant>
struct GlobalKernel {
  using Params = Buffers;
  static constexpr const char* kName = "conformance";
  static constexpr uint32_t kThreads = 64;
  static constexpr uint32_t kMinBlocks = 1;

  static std::array<machine::Span, 2> spans(const Params& p) {
    using machine::Role;
    return {{{p.in, kThreads * 16, Role::activation, "x"}, {p.out, kThreads * 16, Role::output, "y"}}};
  }

  static RK_DEVICE void run(const Params& p) {
    const T* in = reinterpret_cast<const T*>(p.in);
    T* out = reinterpret_cast<T*>(p.out);
    for (uint32_t i = ptx::tid_x(); i < kThreads * 16 / sizeof(T); i += kThreads) {
      ptx::st_global(out + i, kConstant ? ptx::ld_global_nc(in + i) : ptx::ld_global(in + i));
    }
  }
};

template <class T, bool kConstant>
constexpr Entry global_entry(const char* name) {
  using Kernel = GlobalKernel<T, kConstant>;
  return {name, Kernel::kThreads * 4, Kernel::kThreads * 4,
          [](const Buffers& buffers, Stream stream) { start<Kernel>(1, 1, 0, buffers, stream); }};
}

using namespace primitives;

constexpr Entry kEntries[] = {
    entry<Ids>("ids"),
    entry<Barrier>("barrier"),
    entry<NamedBarrier>("named_barrier"),
    entry<WarpSync>("warp_sync"),
    entry<ShflXor>("shfl_xor"),
    entry<ShflDown>("shfl_down"),
    entry<ShflUp>("shfl_up"),
    entry<ShflIdx>("shfl_idx"),
    entry<Votes>("votes"),
    global_entry<uint8_t, false>("global_1"),
    global_entry<uint16_t, false>("global_2"),
    global_entry<uint32_t, false>("global_4"),
    global_entry<Words2, false>("global_8"),
    global_entry<Words4, false>("global_16"),
    global_entry<uint8_t, true>("global_nc_1"),
    global_entry<uint16_t, true>("global_nc_2"),
    global_entry<uint32_t, true>("global_nc_4"),
    global_entry<Words2, true>("global_nc_8"),
    global_entry<Words4, true>("global_nc_16"),
    entry<Shared<uint16_t>>("shared_2"),
    entry<Shared<uint32_t>>("shared_4"),
    entry<Shared<Words2>>("shared_8"),
    entry<Shared<Words4>>("shared_16"),
    entry<CpAsync<4>>("cp_async_4"),
    entry<CpAsync<8>>("cp_async_8"),
    entry<CpAsync<16>>("cp_async_16"),
    entry<Ldmatrix<4, false>>("ldmatrix_x4"),
    entry<Ldmatrix<4, true>>("ldmatrix_x4_trans"),
    entry<Ldmatrix<2, false>>("ldmatrix_x2"),
    entry<Ldmatrix<2, true>>("ldmatrix_x2_trans"),
    entry<Mma<MmaType::bf16>>("mma_bf16"),
    entry<Mma<MmaType::f16>>("mma_f16"),
    entry<Mma<MmaType::tf32>>("mma_tf32"),
    entry<Fma>("fma"),
    entry<MaxNan>("max_nan"),
    entry<CvtBf16x2>("cvt_bf16x2"),
    entry<CvtF16x2>("cvt_f16x2"),
    entry<CvtTf32>("cvt_tf32"),
    entry<UnpackBf16x2>("unpack_bf16x2"),
    entry<UnpackF16x2>("unpack_f16x2"),
};

Entry find(const char* primitive) {
  for (const Entry& entry : kEntries) {
    if (std::strcmp(entry.name, primitive) == 0) return entry;
  }
  Entry found = {};
  if (conformance_kernels::find_sm90(primitive, found)) return found;
  throw std::runtime_error(std::string("conformance: unknown primitive '") + primitive + "'");
}

}  // namespace

int64_t conformance_input_words(const char* primitive) { return find(primitive).in_words; }
int64_t conformance_output_words(const char* primitive) { return find(primitive).out_words; }

void conformance(const char* primitive, const void* in, void* out, Stream stream) {
  find(primitive).run({static_cast<const uint32_t*>(in), static_cast<uint32_t*>(out)}, stream);
}

}  // namespace rk
