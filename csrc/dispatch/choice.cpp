#include "dispatch/choice.h"

#include <algorithm>
#include <cstdlib>

#include "dispatch/problem.h"
#include "dispatch/tuned_table.h"
#include "machine/device.h"

namespace rk {
namespace dispatch {
namespace {

bool is_ffma(const ConvTask& task) { return task.dtype == DType::f32 && !task.tf32; }

// Channels of what is multiplied, and of what comes out.
bool whole_chunks(const ConvTask& task, bool source) {
  const ConvShape& shape = task.shape;
  const bool c = shape.c * element_bytes(task.dtype) % 16 == 0;
  const bool k = shape.k * element_bytes(task.dtype) % 16 == 0;
  if (task.operation == Operation::wgrad) return c && k;
  return source == (task.operation == Operation::fprop) ? c : k;
}

bool vector_source(const ConvTask& task, const ConvDemands& demands) {
  return demands.aligned_source && whole_chunks(task, true);
}

const char* why_not_sm80(const Configuration& configuration, const ConvTask& task,
                         const ConvDemands& demands) {
  const ConvTileTraits& traits = configuration.traits();
  const bool vector = vector_source(task, demands);
  if (task.operation == Operation::wgrad) {
    if (traits.tile == sm80::ConvTile::t128x64) return "conv_wgrad has no such tile";
    return vector || traits.elements ? nullptr : "the source is not made of aligned 16-byte chunks";
  }
  if (is_ffma(task) && !traits.ffma) return "strict float32 has no such tile";
  return vector || traits.elements ? nullptr : "the source is not made of aligned 16-byte chunks";
}

// What an im2col map, and copies through it, can state of one axis: the corners of its box, the step from one
// pixel to the next and the offsets of the taps, counted from the one that lies first in memory.
const char* why_not_im2col(const tile::ConvAxis& axis) {
  if (axis.taps == 0) return nullptr;
  const int64_t reach = int64_t{axis.taps - 1} * axis.tap_step;
  const int64_t lower = axis.base + std::min<int64_t>(reach, 0);
  const int64_t upper = lower + int64_t{axis.rows - 1} * axis.row_step - (axis.source - 1);
  if (axis.row_step < 1 || axis.row_step > 8) return "tensor maps step 1 to 8 pixels";
  if (std::abs(reach) > 255) return "taps lie more than 255 pixels apart";
  for (const int64_t corner : {lower, upper}) {
    if (corner < -128 || corner > 127) return "a corner of the im2col box is not in -128..127";
  }
  return nullptr;
}

// What is made on load goes through registers, of which a tile of 128 rows leaves enough; a second source
// takes the room of the widest tile's stages.
const char* why_not_on_load(sm90::ConvTile tile, const ConvTask& task, OnLoad on_load) {
  using enum sm90::ConvTile;
  if (on_load == OnLoad::nothing) return tile == t128x64 ? "the tile is for what is made on load" : nullptr;
  if (on_load == OnLoad::other) return "only portable kernels make it on load";
  if (tile == t256x128 || tile == t256x64) return "no room to make anything on load";
  if (tile == t128x256 && on_load == OnLoad::two) return "no room for a second source";
  const int64_t channels = task.operation == Operation::fprop ? task.shape.c : task.shape.k;
  if (!conv_is_pointwise(task.shape) || channels % 64 != 0)
    return "on load is for pointwise convolutions of multiples of 64 channels";
  return nullptr;
}

// The tile whose weights stay in shared memory: all taps of all channels.
const char* why_not_narrow(const ConvTask& task) {
  const ConvShape& shape = task.shape;
  const bool fprop = task.operation == Operation::fprop;
  const int64_t columns = fprop ? shape.k : shape.c, channels = fprop ? shape.c : shape.k;
  if (columns > 64) return "the tile is for at most 64 channels of the output";
  if (shape.r * shape.s * ceil_div(channels, 64) > sm90::kNarrowWeightBoxes)
    return "the weights do not fit beside the stages";
  return nullptr;
}

const char* why_not_sm90(const Configuration& configuration, const ConvTask& task, const ConvDemands& demands,
                         const std::vector<tile::ConvGeometry>& phases, int compute_capability) {
  if (compute_capability != 90) return "the GPU is not of compute capability 9.0";
  if (configuration.plans_wgrad() != (task.operation == Operation::wgrad))
    return task.operation == Operation::wgrad ? "conv_wgrad has no such tile" : "the kernel is conv_wgrad's";
  if (task.dtype == DType::f32) return "only bfloat16 and float16";
  if (demands.residual_view) return "the residual is not of the output's shape";
  if (!whole_chunks(task, true) || !whole_chunks(task, false)) return "channels are not multiples of 8";
  if (!demands.aligned_source || !demands.aligned_rest) return "a tensor is not aligned to 16 bytes";
  if (configuration.plans_wgrad()) {
    if (demands.on_load != OnLoad::nothing) {
      if (demands.on_load != OnLoad::one) return "conv_wgrad normalises on load, and no more";
      const WgradPlan plan = choose_wgrad_plan(task.shape, task.sm_count);
      if (const char* reason = why_not_normalised_on_load(task.shape, plan)) return reason;
    }
    const tile::ConvGeometry& conv = phases.front();
    const bool stated = why_not_im2col(conv.h) == nullptr && why_not_im2col(conv.w) == nullptr;
    return stated ? nullptr : "tensor maps cannot state the window";
  }
  if (configuration.keeps_weights()) {
    if (demands.on_load != OnLoad::nothing) return "no room to make anything on load";
    if (const char* reason = why_not_narrow(task)) return reason;
  } else if (const char* reason = why_not_on_load(configuration.sm90_tile(), task, demands.on_load)) {
    return reason;
  }
  if (phases.size() > sm90::kDgradPhasesPerLaunch) return "more than four phases";
  for (const tile::ConvGeometry& phase : phases) {
    for (const tile::ConvAxis* axis : {&phase.h, &phase.w}) {
      if (const char* reason = why_not_im2col(*axis)) return reason;
    }
  }
  return nullptr;
}

sm80::ConvTile portable_tile(const ConvTask& task, const ConvDemands& demands) {
  const ConvShape& shape = task.shape;
  const bool vector = vector_source(task, demands);
  if (task.operation == Operation::wgrad) return choose_wgrad_tile(shape.k, shape.gemm_k(), vector);
  const bool fprop = task.operation == Operation::fprop;
  return choose_conv_tile(fprop ? shape.gemm_m() : shape.n * shape.h * shape.w, fprop ? shape.k : shape.c,
                          vector, is_ffma(task), task.sm_count)
      .tile;
}

// Source pixels along an axis that some row of the GEMM reads.
int64_t touched(const tile::ConvAxis& axis) {
  if (axis.taps == 0) return 0;
  const int64_t span =
      int64_t{axis.rows - 1} * axis.row_step + int64_t{axis.taps - 1} * std::abs(axis.tap_step) + 1;
  return std::min({int64_t{axis.source}, span, int64_t{axis.rows} * axis.taps});
}

}  // namespace

std::vector<tile::ConvGeometry> geometry(const ConvTask& task) {
  if (task.operation == Operation::dgrad) return dgrad_geometry(task.shape);
  return {fprop_geometry(task.shape)};
}

const char* why_not(const Configuration& configuration, const ConvTask& task, const ConvDemands& demands,
                    const std::vector<tile::ConvGeometry>& phases, int compute_capability) {
  return configuration.kernels == Kernels::sm80
             ? why_not_sm80(configuration, task, demands)
             : why_not_sm90(configuration, task, demands, phases, compute_capability);
}

ConvWork conv_work(const ConvTask& task, OnLoad on_load, const std::vector<tile::ConvGeometry>& phases) {
  const ConvShape& shape = task.shape;
  ConvWork work = {.operation = task.operation,
                   .dtype = task.dtype,
                   .tf32 = task.tf32,
                   .bytes = 0,
                   .weights = shape.weight_elements(),
                   .sources = on_load == OnLoad::two ? 2 : 1,
                   .chunks = shape.r * shape.s * ceil_div(shape.c, 64),
                   .phases = {}};
  int64_t source = 0, output = 0;
  for (const tile::ConvGeometry& phase : phases) {
    work.phases.push_back({.rows = phase.gemm_m(),
                           .columns = phase.columns,
                           .taps = int64_t{phase.h.taps} * phase.w.taps,
                           .channels = phase.channels});
    source = std::max(source, phase.n * touched(phase.h) * touched(phase.w) * phase.channels);
    output += int64_t{phase.gemm_m()} * phase.columns;
  }
  work.bytes = (work.sources * source + output + work.weights) * element_bytes(task.dtype);
  if (task.operation == Operation::wgrad)
    work.phases = {{.rows = shape.k, .columns = shape.gemm_k(), .taps = 1, .channels = shape.gemm_m()}};
  return work;
}

int choose(const ConvTask& task, const ConvDemands& demands, int compute_capability) {
  const std::vector<tile::ConvGeometry> phases = geometry(task);
  const auto legal = [&](int place) {
    return why_not(kConfigurations[static_cast<size_t>(place)], task, demands, phases, compute_capability) ==
           nullptr;
  };
  for (const int wanted : {forced_configuration(), tuned_configuration(task)}) {
    if (wanted != kChoose && legal(wanted)) return wanted;
  }
  const int portable = portable_configuration(portable_tile(task, demands));
  const int all = static_cast<int>(kConfigurations.size()), hopper = static_cast<int>(kConvTiles.size());
  bool sm90 = false;
  for (int place = hopper; place < all; ++place) sm90 = sm90 || legal(place);
  if (!sm90) return portable;

  const ConvWork work = conv_work(task, demands.on_load, phases);
  if (task.operation == Operation::wgrad) {  // by an estimate of its own, which knows more of wgrad
    const Gemm& gemm = work.phases.front();
    const Configuration& tile = kConfigurations[static_cast<size_t>(portable)];
    const WgradSplit cut = split_wgrad(ceil_div(gemm.rows, tile.rows) * ceil_div(gemm.columns, tile.columns),
                                       gemm.depth(), tile.blocks_per_sm, task.sm_count);
    const int64_t clocks = portable_wgrad_clocks(cut, tile, gemm.rows, gemm.columns, task.sm_count);
    const WgradPlan plan = choose_wgrad_plan(task.shape, task.sm_count);
    return plan.clocks <= clocks ? kPlannedWgrad : portable;
  }
  const Gpu gpu = h200(task.sm_count);
  const auto costs = [&](int place) { return cost(kConfigurations[static_cast<size_t>(place)], work, gpu); };
  int best = portable;
  Cost least = costs(portable);
  for (int place = 0; place < all; ++place) {
    if (!legal(place)) continue;
    const Cost found = costs(place);
    if (better(found, least)) {
      best = place;
      least = found;
    }
  }
  return best;
}

int64_t row_tiles(const Configuration& configuration, const std::vector<tile::ConvGeometry>& phases) {
  int64_t tiles = 0;
  for (const tile::ConvGeometry& phase : phases) tiles += ceil_div(phase.gemm_m(), configuration.rows);
  return tiles;
}

}  // namespace dispatch

std::vector<ConvPrediction> predict_conv(const ConvTask& task, const ConvDemands& demands,
                                         int compute_capability) {
  if (compute_capability == kThisMachine) compute_capability = machine::compute_capability();
  const std::vector<tile::ConvGeometry> phases = dispatch::geometry(task);
  const dispatch::ConvWork work = dispatch::conv_work(task, demands.on_load, phases);
  const size_t chosen = static_cast<size_t>(dispatch::choose(task, demands, compute_capability));
  std::vector<ConvPrediction> found;
  for (size_t i = 0; i < dispatch::kConfigurations.size(); ++i) {
    const dispatch::Configuration& configuration = dispatch::kConfigurations[i];
    const char* reason = why_not(configuration, task, demands, phases, compute_capability);
    const dispatch::Cost cost = reason == nullptr
                                    ? dispatch::cost(configuration, work, dispatch::h200(task.sm_count))
                                    : dispatch::Cost{};
    found.push_back({.configuration = std::string(configuration.name),
                     .refused = reason == nullptr ? "" : reason,
                     .chosen = i == chosen,
                     .tiles = cost.tiles,
                     .waves = cost.waves,
                     .efficiency = cost.efficiency,
                     .memory = cost.memory,
                     .feed = cost.feed,
                     .math = cost.math,
                     .launches = cost.launches,
                     .seconds = cost.seconds,
                     .bound = reason == nullptr ? cost.bound() : ""});
  }
  return found;
}

}  // namespace rk
