// Which configuration computes a problem: the one that is forced, else the tuned one, else the one that the
// cost model ranks first; each only where it can.
#pragma once

#include <vector>

#include "api.h"
#include "dispatch/configuration.h"
#include "dispatch/cost_model.h"
#include "tile/conv_geometry.h"

namespace rk::dispatch {

// The task's implicit GEMMs: dgrad has one a phase. Throws std::runtime_error when an extent does not fit
// their indices.
std::vector<tile::ConvGeometry> geometry(const ConvTask& task);

// Why the configuration cannot compute the problem, or null if it can. `phases` is the task's geometry.
const char* why_not(const Configuration& configuration, const ConvTask& task, const ConvDemands& demands,
                    const std::vector<tile::ConvGeometry>& phases, int compute_capability);

// What the cost model counts.
ConvWork conv_work(const ConvTask& task, OnLoad on_load, const std::vector<tile::ConvGeometry>& phases);

// The place of the chosen configuration. Where no kernel of sm_90 can, the portable tile is chosen by
// conv_tile_choice.h alone: the same on every GPU of as many multiprocessors.
int choose(const ConvTask& task, const ConvDemands& demands, int compute_capability);

// The problem's, or the choice for it on this machine.
template <class Problem>
const Configuration& configuration_of(const Problem& problem) {
  const int chosen = problem.configuration == kChoose ? choose_configuration(problem) : problem.configuration;
  return kConfigurations.at(static_cast<size_t>(chosen));
}

// Row tiles of a launch, each phase's counted by itself: what statistics have partials of.
int64_t row_tiles(const Configuration& configuration, const std::vector<tile::ConvGeometry>& phases);

}  // namespace rk::dispatch
