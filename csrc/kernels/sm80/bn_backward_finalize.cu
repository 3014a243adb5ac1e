// BatchNorm's backward sums become what its gradient is made of, per channel:
//
//   slope = weight rstd,  offset = sum h / M,  tilt = rstd^2 sum(h (x - mean)) / M        batch statistics
//   slope = weight rstd,  offset = tilt = 0                                               fixed statistics
//   dscale = sum(h (x - mean)) rstd,  dshift = sum h                                      of this rank's
//   pixels
//
// so that dx = slope (h - offset - (x - mean) tilt) (Ioffe and Szegedy 2015, section 3); M are the pixels
// that the statistics cover, over all ranks. A few hundred threads, one a channel.
#include <array>
#include <cstdint>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"

namespace rk::sm80 {
namespace {

struct BnBackwardFinalizeKernel {
  struct Params {
    BnBackwardFinalize problem;
    float count;
    int32_t channels;
  };

  static constexpr const char* kName = "bn_backward_finalize";
  static constexpr uint32_t kThreads = 128;
  static constexpr uint32_t kMinBlocks = 1;

  static std::array<machine::Span, 6> spans(const Params& params) {
    using machine::Role;
    const BnBackwardFinalize& p = params.problem;
    const int64_t bytes = p.channels * 4;
    const float* other_sums = p.sums == p.local_sums ? nullptr : p.local_sums;
    return {{{p.norm, 4 * bytes, Role::vector, "norm"},
             {p.sums, 2 * bytes, Role::vector, "sums"},
             {other_sums, 2 * bytes, Role::vector, "local_sums"},
             {p.coefficients, 4 * bytes, Role::output, "coefficients"},
             {p.dscale, bytes, Role::output, "dscale"},
             {p.dshift, bytes, Role::output, "dshift"}}};
  }

  static RK_DEVICE void run(const Params& params) {
    const BnBackwardFinalize& p = params.problem;
    const int32_t channels = params.channels;
    const auto channel = static_cast<int32_t>(ptx::ctaid_x() * kThreads + ptx::tid_x());
    if (channel >= channels) return;
    const float rstd = ptx::ld_global_nc(p.norm + 3 * channels + channel);
    float offset = 0.f, tilt = 0.f;
    if (p.batch_statistics) {
      offset = ptx::ld_global_nc(p.sums + channel) / params.count;
      tilt = ptx::ld_global_nc(p.sums + channels + channel) / params.count * rstd * rstd;
    }
    ptx::st_global(p.coefficients + channel, ptx::ld_global_nc(p.norm + channels + channel));
    ptx::st_global(p.coefficients + channels + channel, offset);
    ptx::st_global(p.coefficients + 2 * channels + channel, ptx::ld_global_nc(p.norm + channel));
    ptx::st_global(p.coefficients + 3 * channels + channel, tilt);
    ptx::st_global(p.dshift + channel, ptx::ld_global_nc(p.local_sums + channel));
    ptx::st_global(p.dscale + channel, ptx::ld_global_nc(p.local_sums + channels + channel) * rstd);
  }
};

}  // namespace

void launch_bn_backward_finalize(const BnBackwardFinalize& problem) {
  using Kernel = BnBackwardFinalizeKernel;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((problem.channels + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = problem.stream},
      {.problem = problem,
       .count = static_cast<float>(problem.count),
       .channels = static_cast<int32_t>(problem.channels)});
}

}  // namespace rk::sm80
