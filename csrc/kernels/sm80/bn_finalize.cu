// Batch moments become what the rest of BatchNorm's forward pass needs, per channel:
//
//   mean, var = M2 / M                        biased, as the normalisation uses it
//   running = (1 - momentum) running + momentum (mean | M2 / (M - 1))       as torch.nn.BatchNorm2d updates
//   its buffers
//
// New running statistics are returned, not written in place. A few hundred threads, one a channel.
#include <array>
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
    const float* moments;  // [2, channels]: mean, M2
    const float* running_mean;
    const float* running_var;
    float* mean;
    float* var;
    float* new_running_mean;
    float* new_running_var;
    float count;
    float momentum;
    int32_t channels;
  };

  static constexpr const char* kName = "bn_finalize";
  static constexpr uint32_t kThreads = 128;
  static constexpr uint32_t kMinBlocks = 1;

  static std::array<machine::Span, 7> spans(const Params& p) {
    using machine::Role;
    const int64_t bytes = int64_t{p.channels} * 4;
    return {{{p.moments, 2 * bytes, Role::vector, "moments"},
             {p.running_mean, bytes, Role::vector, "running_mean"},
             {p.running_var, bytes, Role::vector, "running_var"},
             {p.mean, bytes, Role::output, "mean"},
             {p.var, bytes, Role::output, "var"},
             {p.new_running_mean, bytes, Role::output, "new_running_mean"},
             {p.new_running_var, bytes, Role::output, "new_running_var"}}};
  }

  static RK_DEVICE float blend(float old_value, float value, float momentum) {
    return (1.f - momentum) * old_value + momentum * value;
  }

  static RK_DEVICE void run(const Params& p) {
    const auto channel = static_cast<int32_t>(ptx::ctaid_x() * kThreads + ptx::tid_x());
    if (channel >= p.channels) return;
    const float mean = ptx::ld_global_nc(p.moments + channel);
    const float m2 = ptx::ld_global_nc(p.moments + p.channels + channel);
    ptx::st_global(p.mean + channel, mean);
    ptx::st_global(p.var + channel, m2 / p.count);
    if (p.running_mean == nullptr) return;
    const float old_mean = ptx::ld_global_nc(p.running_mean + channel);
    const float old_var = ptx::ld_global_nc(p.running_var + channel);
    ptx::st_global(p.new_running_mean + channel, blend(old_mean, mean, p.momentum));
    ptx::st_global(p.new_running_var + channel, blend(old_var, m2 / (p.count - 1.f), p.momentum));
  }
};

}  // namespace

void launch_bn_finalize(const BnFinalize& problem) {
  using Kernel = BnFinalizeKernel;
  machine::launch<Kernel>(
      {.grid = {.x = static_cast<uint32_t>((problem.channels + Kernel::kThreads - 1) / Kernel::kThreads)},
       .block = Kernel::kThreads,
       .stream = problem.stream},
      {.moments = problem.moments,
       .running_mean = problem.running_mean,
       .running_var = problem.running_var,
       .mean = problem.mean,
       .var = problem.var,
       .new_running_mean = problem.new_running_mean,
       .new_running_var = problem.new_running_var,
       .count = static_cast<float>(problem.count),
       .momentum = problem.momentum,
       .channels = static_cast<int32_t>(problem.channels)});
}

}  // namespace rk::sm80
