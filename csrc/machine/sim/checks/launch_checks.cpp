#include "checks/launch_checks.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

namespace rk::sim {
namespace {

struct State {
  std::mutex mutex;
  Controls controls;
  uint64_t launches = 0;  // since the controls were set
  uint64_t serial = 0;
  bool recording = false;
  std::vector<LaunchRecord> records;
};

State& state() {
  static auto* const instance = new State;
  return *instance;
}

std::string name_of(const Span& span) { return std::string(span.name) + " (" + role_name(span.role) + ")"; }

}  // namespace

const char* role_name(machine::Role role) {
  switch (role) {
    case machine::Role::activation: return "activation";
    case machine::Role::weight: return "weight";
    case machine::Role::vector: return "vector";
    case machine::Role::output: return "output";
    case machine::Role::partial: return "partial";
  }
  throw std::logic_error("role_name: unknown role");
}

void set_controls(const Controls& controls) {
  const std::lock_guard lock(state().mutex);
  state().controls = controls;
  state().launches = 0;
}

Controls controls() {
  const std::lock_guard lock(state().mutex);
  return state().controls;
}

void record_launches(bool on) {
  const std::lock_guard lock(state().mutex);
  state().recording = on;
}

std::vector<LaunchRecord> take_records() {
  const std::lock_guard lock(state().mutex);
  return std::move(state().records);
}

Buffer::Buffer(const Span& span) : span_(span), begin_(reinterpret_cast<uintptr_t>(span.data)) {
  const uint64_t first = begin_ / kSectorBytes,
                 last = (begin_ + static_cast<uint64_t>(span.bytes) - 1) / kSectorBytes;
  for (auto& bitmap : sectors_) bitmap = std::vector<std::atomic<uint64_t>>((last - first + 64) / 64);
  if (written_by_kernel()) {
    // Zero pages that the system hands out when they are first touched.
    void* memory = std::calloc(static_cast<size_t>(span.bytes), sizeof(std::atomic<uint32_t>));
    if (memory == nullptr) throw std::bad_alloc();
    writers_ = {static_cast<std::atomic<uint32_t>*>(memory), std::free};
  }
}

void Buffer::touch(uint64_t address, uint32_t bytes, bool write) {
  const uint64_t first = begin_ / kSectorBytes;
  for (uint64_t sector = address / kSectorBytes; sector <= (address + bytes - 1) / kSectorBytes; ++sector) {
    auto& word = sectors_[write][(sector - first) / 64];
    const uint64_t bit = uint64_t{1} << (sector - first) % 64;
    if (!(word.load(std::memory_order_relaxed) & bit)) word.fetch_or(bit, std::memory_order_relaxed);
  }
}

uint32_t Buffer::claim(uint64_t address, uint32_t bytes, uint32_t writer) {
  uint32_t other = 0;
  for (uint64_t i = address - begin_; i < address - begin_ + bytes; ++i) {
    const uint32_t before = writers_[i].exchange(writer, std::memory_order_relaxed);
    if (before != 0 && before != writer) other = before;
  }
  return other;
}

uint64_t Buffer::unique(bool written) const {
  uint64_t count = 0;
  for (const auto& word : sectors_[written]) count += static_cast<uint64_t>(std::popcount(word.load()));
  return count;
}

LaunchChecks::LaunchChecks(const LaunchInfo& launch) {
  {
    const std::lock_guard lock(state().mutex);
    controls_ = state().controls;
    index_ = state().launches++;
    serial_ = ++state().serial;
  }
  for (uint32_t i = 0; i < launch.span_count; ++i) {
    const Span& span = launch.spans[i];
    if (span.data == nullptr || span.bytes == 0) continue;
    Buffer buffer(span);
    bool known = false;
    for (const Buffer& other : buffers_) {
      const auto* a = static_cast<const uint8_t*>(span.data);
      const auto* b = static_cast<const uint8_t*>(other.span().data);
      if (a + span.bytes <= b || b + other.span().bytes <= a) continue;
      const bool identical = a == b && span.bytes == other.span().bytes;
      if (!identical || buffer.written_by_kernel() || other.written_by_kernel()) {
        throw std::runtime_error(std::string(launch.kernel) + ": the buffers " + name_of(span) + " and " +
                                 name_of(other.span()) + " overlap");
      }
      known = true;  // a tensor passed twice counts once, as what it was named first
    }
    if (!known) buffers_.push_back(std::move(buffer));
  }
  for (const Buffer& buffer : buffers_) {
    if (!buffer.written_by_kernel()) continue;
    std::memset(const_cast<void*>(buffer.span().data), 0xff, static_cast<size_t>(buffer.span().bytes));
  }
}

std::string LaunchChecks::nearest(uint64_t address) const {
  const Buffer* best = nullptr;
  uint64_t distance = ~uint64_t{0};
  std::string where;
  for (const Buffer& buffer : buffers_) {
    const auto begin = reinterpret_cast<uintptr_t>(buffer.span().data);
    const uint64_t end = begin + static_cast<uint64_t>(buffer.span().bytes);
    const uint64_t away = address < begin ? begin - address : address >= end ? address - end : 0;
    if (away >= distance) continue;
    best = &buffer;
    distance = away;
    where = address < begin  ? std::to_string(begin - address) + " bytes before the start of "
            : address >= end ? std::to_string(address - end) + " bytes past the end of "
                             : std::to_string(end - address) + " bytes before the end of ";
  }
  if (best == nullptr) return "the kernel declares no buffer";
  return where + name_of(best->span()) + " of " + std::to_string(best->span().bytes) + " bytes";
}

void LaunchChecks::add(const Tally& tally) {
  const std::lock_guard lock(mutex_);
  tally_.add(tally);
}

void LaunchChecks::finish(const LaunchInfo& launch) {
  for (const Buffer& buffer : buffers_) {
    GlobalTraffic& traffic = tally_.global[static_cast<size_t>(buffer.span().role)];
    traffic.unique_read += buffer.unique(false);
    traffic.unique_written += buffer.unique(true);
  }
  LaunchRecord record = {.kernel = launch.kernel,
                         .grid = launch.config.grid,
                         .block = launch.config.block,
                         .smem = launch.config.smem,
                         .global = tally_.global,
                         .shared = {},
                         .sites = {},
                         .macs = tally_.macs,
                         .steps = tally_.steps};
  for (const auto& [site, traffic] : tally_.sites) {
    record.sites.emplace_back(site_info(site), traffic);
    record.shared += traffic.shared;
  }
  const std::lock_guard lock(state().mutex);
  if (state().recording) state().records.push_back(std::move(record));
}

}  // namespace rk::sim
