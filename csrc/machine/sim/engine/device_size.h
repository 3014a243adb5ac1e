// How many multiprocessors the simulated GPU has.
#pragma once

namespace rk::sim {

int set_sm_count(int count);  // returns what it was

}  // namespace rk::sim
