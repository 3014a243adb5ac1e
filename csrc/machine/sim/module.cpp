// The Python module of the simulator, `_sim` or `_sim_checked`: loading it registers the operators
// (binding/) and gives resnet_kernels/simulator.py the engine's controls. Plain values only: both modules
// may be loaded, and a bound class would exist once for the two of them.
#undef TORCH_TARGET_VERSION  // torch's pybind11 refuses the stable ABI, which this file does not use
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "benchmark.h"
#include "checks/launch_checks.h"
#include "engine/device_size.h"
#include "engine/pool.h"

namespace py = pybind11;

namespace {

using namespace rk::sim;

constexpr const char* kCompletions[] = {"eager", "late", "random"};
constexpr const char* kPacings[] = {"lockstep", "run-ahead", "random"};
constexpr const char* kOrders[] = {"forward", "reverse", "random"};
constexpr const char* kKinds[] = {"policy", "pct"};

template <class Enum, size_t kCount>
Enum parse(const std::string& name, const char* const (&names)[kCount], const char* what) {
  for (size_t i = 0; i < kCount; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
  }
  throw std::invalid_argument(std::string(what) + ": unknown value '" + name + "'");
}

void set_controls_by_name(const std::string& completion, const std::string& pacing, const std::string& order,
                          const std::string& kind, uint32_t changes, uint64_t seed, bool races) {
  set_controls({.schedule = {.completion = parse<Completion>(completion, kCompletions, "completion"),
                             .pacing = parse<Pacing>(pacing, kPacings, "pacing"),
                             .order = parse<Order>(order, kOrders, "order"),
                             .kind = parse<Kind>(kind, kKinds, "kind"),
                             .changes = changes,
                             .seed = seed},
                .races = races});
}

py::dict to_dict(const SharedTraffic& traffic) {
  py::dict d;
  d["instructions"] = traffic.instructions;
  d["wavefronts"] = traffic.wavefronts;
  d["conflict_free"] = traffic.conflict_free;
  return d;
}

py::dict to_dict(const SiteInfo& site) {
  py::dict d;
  d["kernel"] = site.kernel;
  d["file"] = site.file;
  d["line"] = site.line;
  d["kind"] = site_kind_name(site.kind);
  return d;
}

py::dict to_dict(const LaunchRecord& record) {
  py::dict d, global;
  d["kernel"] = record.kernel;
  d["grid"] = py::make_tuple(record.grid.x, record.grid.y, record.grid.z);
  d["block"] = record.block;
  d["smem"] = record.smem;
  for (uint32_t role = 0; role < kRoles; ++role) {
    const GlobalTraffic& traffic = record.global[role];
    py::dict g;
    g["unique_read"] = traffic.unique_read;
    g["unique_written"] = traffic.unique_written;
    g["requested"] = traffic.requested;
    g["useful"] = traffic.useful;
    global[role_name(static_cast<rk::machine::Role>(role))] = g;
  }
  d["global"] = global;
  d["shared"] = to_dict(record.shared);
  py::list sites;
  for (const auto& [site, traffic] : record.sites) {
    py::dict s = to_dict(site);
    s["shared"] = to_dict(traffic.shared);
    s["instructions"] = traffic.instructions;
    s["requested"] = traffic.requested;
    s["useful"] = traffic.useful;
    sites.append(s);
  }
  d["sites"] = sites;
  d["macs"] = record.macs;
  d["steps"] = record.steps;
  return d;
}

SiteInfo find_site(const std::string& kernel, const std::string& file, uint32_t line,
                   const std::string& kind) {
  for (const SiteInfo& site : all_sites()) {
    if (site.kernel == kernel && site.file == file && site.line == line && kind == site_kind_name(site.kind))
      return site;
  }
  throw std::invalid_argument("no kernel has executed " + kind + " at " + file + ":" + std::to_string(line) +
                              " in " + kernel + " yet");
}

}  // namespace

PYBIND11_MODULE(RK_MODULE, m) {
  m.attr("checked") = kChecked;
  m.def("set_workers", &set_workers, py::arg("count"));
  m.def("workers", &workers);
  m.def("set_sm_count", &set_sm_count, py::arg("count"));
  m.def("set_compute_capability", &set_compute_capability, py::arg("value"));
  m.def("benchmark", [] {
    Benchmark result;
    {
      const py::gil_scoped_release release;
      result = benchmark();
    }
    py::dict d;
    d["switch_ns"] = result.switch_ns;
    d["mma_gflops"] = result.mma_gflops;
    d["wgmma_gflops"] = result.wgmma_gflops;
    d["fma_gflops"] = result.fma_gflops;
    d["copy_gbytes"] = result.copy_gbytes;
    return d;
  });
  if (!kChecked) return;
  m.def("set_controls", &set_controls_by_name, py::arg("completion"), py::arg("pacing"), py::arg("order"),
        py::arg("kind"), py::arg("changes"), py::arg("seed"), py::arg("races"));
  m.def("record", &record_launches, py::arg("on"));
  m.def("take_records", [] {
    py::list records;
    for (const LaunchRecord& record : take_records()) records.append(to_dict(record));
    return records;
  });
  m.def("sites", [] {
    py::list sites;
    for (const SiteInfo& site : all_sites()) {
      if (site.kind >= kFirstOrdering) sites.append(to_dict(site));
    }
    return sites;
  });
  m.def("forget_sites", &forget_sites);
  m.def(
      "disable",
      [](const std::string& kernel, const std::string& file, uint32_t line, const std::string& kind,
         bool disabled) { set_disabled(find_site(kernel, file, line, kind), disabled); },
      py::arg("kernel"), py::arg("file"), py::arg("line"), py::arg("kind"), py::arg("disabled"));
}
