// Batch moments become what the rest of BatchNorm's forward pass needs, per channel:
//
//   var = M2 / M                              biased, as the normalisation uses it
//   norm = (mean, weight rstd, bias, rstd),   rstd = 1 / sqrt(var + eps)
//   running = (1 - momentum) running + momentum (mean | M2 / (M - 1))   as torch.nn.BatchNorm2d updates its
//   buffers
//
// New running statistics are returned, not written in place. A few hundred threads, one a channel.
#include <array>
#include <cmath>
#include <cstdint>

#include <launch.h>
#include <ptx/global.h>
#include <ptx/ids.h>

#include "kernels/sm80/launchers.h"
#include "machine/launch_config.h"

namespace rk::sm80 {
namespace {

struct BnFinalizeKernel {
  struct Params {
    BnFinalize problem;
    float count;
    int32_t channels;
  };

  static constexpr const char* kName = "bn_finalize";
  static constexpr uint32_t kThreads = 128;
  static constexpr uint32_t kMinBlocks = 1;

  static std::array<machine::Span, 8> spans(const Params& params) {
    using machine::Role;
    const BnFinalize& p = params.problem;
    const int64_t bytes = p.channels * 4;
    return {{{p.moments, 2 * bytes, Role::vector, "moments"},
             {p.weight, bytes, Role::vector, "weight"},
             {p.bias, bytes, Role::vector, "bias"},
             {p.running_mean, bytes, Role::vector, "running_mean"},
             {p.running_var, bytes, Role::vector, "running_var"},
             {p.norm, 4 * bytes, Role::output, "norm"},
             {p.new_running_mean, bytes, Role::output, "new_running_mean"},
             {p.new_running_var, bytes, Role::output, "new_running_var"}}};
  }

  static RK_DEVICE float blend(float old_value, float value, float momentum) {
    return (1.f - momentum) * old_value + momentum * value;
  }

  static RK_DEVICE void run(const Params& params) {
    const BnFinalize& p = params.problem;
    const int32_t channels = params.channels;
    const auto channel = static_cast<int32_t>(ptx::ctaid_x() * kThreads + ptx::tid_x());
    if (channel >= channels) return;
    const float mean = ptx::ld_global_nc(p.moments + channel);
    const float m2 = ptx::ld_global_nc(p.moments + channels + channel);
    const float rstd = 1.f / sqrtf(m2 / params.count + p.eps);
    const float weight = p.weight != nullptr ? ptx::ld_global_nc(p.weight + channel) : 1.f;
    const float bias = p.bias != nullptr ? ptx::ld_global_nc(p.bias + channel) : 0.f;
    ptx::st_global(p.norm + channel, mean);
    ptx::st_global(p.norm + channels + channel, weight * rstd);
    ptx::st_global(p.norm + 2 * channels + channel, bias);
    ptx::st_global(p.norm + 3 * channels + channel, rstd);
    if (p.running_mean == nullptr) return;
    const float old_mean = ptx::ld_global_nc(p.running_mean + channel);
    const float old_var = ptx::ld_global_nc(p.running_var + channel);
    ptx::st_global(p.new_running_mean + channel, blend(old_mean, mean, p.momentum));
    ptx::st_global(p.new_running_var + channel, blend(old_var, m2 / (params.count - 1.f), p.momentum));
  }
};

}  // namespace

void launch_bn_finalize(const BnFinalize& problem) {
  using Kernel = BnFinalizeKernel;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((problem.channels + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = problem.stream},
      {.problem = problem,
       .count = static_cast<float>(problem.count),
       .channels = static_cast<int32_t>(problem.channels)});
}

}  // namespace rk::sm80
