// The configurations that somebody has measured to be best, and the one that a test forces: both belong to
// the process, both may change while other threads run convolutions.
#pragma once

#include "api.h"

namespace rk::dispatch {

// The place of the configuration in kConfigurations, or kChoose.
int tuned_configuration(const ConvTask& task);
int forced_configuration();

}  // namespace rk::dispatch
