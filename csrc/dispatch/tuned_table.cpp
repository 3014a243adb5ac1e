#include "dispatch/tuned_table.h"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <unordered_map>

#include "dispatch/configuration.h"

namespace rk {
namespace {

struct Hash {
  size_t operator()(const ConvTask& task) const {
    uint64_t hash =
        static_cast<uint64_t>(task.operation) * 8 + static_cast<uint64_t>(task.dtype) * 2 + task.tf32;
    const ConvShape& s = task.shape;
    for (const int64_t value : {s.n, s.h, s.w, s.c, s.k, s.r, s.s, s.stride_h, s.stride_w, s.pad_h, s.pad_w,
                                s.dilation_h, s.dilation_w, task.sm_count}) {
      hash = (hash ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15;
      hash ^= hash >> 29;
    }
    return hash;
  }
};

struct Table {
  std::shared_mutex mutex;
  std::unordered_map<ConvTask, int, Hash> entries;
};

Table& table() {
  static Table* const kept = new Table;  // outlives whoever runs convolutions while the process ends
  return *kept;
}

std::atomic<int> forced = kChoose;

int named(const std::string& name) {
  const int found = dispatch::find_configuration(name);
  if (found != kChoose) return found;
  std::string known;
  for (const dispatch::Configuration& each : dispatch::kConfigurations) {
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw std::runtime_error("no configuration '" + name + "'; there are " + known);
}

}  // namespace

void tune_conv(const ConvTask& task, const std::string& configuration) {
  const int chosen = named(configuration);
  const std::unique_lock lock(table().mutex);
  table().entries.insert_or_assign(task, chosen);
}

void forget_tuned() {
  const std::unique_lock lock(table().mutex);
  table().entries.clear();
}

std::string force_configuration(const std::string& configuration) {
  const int before = forced.exchange(configuration.empty() ? kChoose : named(configuration));
  return before == kChoose ? "" : std::string(dispatch::kConfigurations[static_cast<size_t>(before)].name);
}

namespace dispatch {

int tuned_configuration(const ConvTask& task) {
  const std::shared_lock lock(table().mutex);
  const auto found = table().entries.find(task);
  return found == table().entries.end() ? kChoose : found->second;
}

int forced_configuration() { return forced; }

}  // namespace dispatch
}  // namespace rk
