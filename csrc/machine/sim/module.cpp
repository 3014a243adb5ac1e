// The Python module of the simulator, `_sim` or `_sim_checked`: loading it registers the operators
// (binding.cpp) and gives resnet_kernels/simulator.py the engine's controls.
#undef TORCH_TARGET_VERSION  // torch ships a pybind11 that refuses to be included where the stable ABI is
                             // used; this file is not
#include <pybind11/pybind11.h>

#include "engine/pool.h"

namespace py = pybind11;

PYBIND11_MODULE(RK_MODULE, m) {
  m.attr("checked") = rk::sim::kChecked;
  m.def("set_workers", &rk::sim::set_workers, py::arg("count"));
  m.def("workers", &rk::sim::workers);
}
