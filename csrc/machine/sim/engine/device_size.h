// How many multiprocessors the simulated GPU has, and of which compute capability it is: 80 or 90.
#pragma once

namespace rk::sim {

int set_sm_count(int count);  // both return what it was
int set_compute_capability(int value);

}  // namespace rk::sim
