// What the checked build keeps for one launch, shared by all cores: its buffers, who wrote which byte of an
// output, which sectors were touched, the counters; and the controls that Python sets for the launches to
// come.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "checks/counters.h"
#include "engine/core.h"

namespace rk::sim {

// What Python asks of the launches to come.
struct Controls {
  Schedule schedule;
  bool races = true;  // report races; without it a missing wait or barrier shows only in the results
};
void set_controls(const Controls& controls);  // also starts counting launches at 0 again: a seed replays
Controls controls();

// Finished launches, oldest first, since recording was turned on. Off, they are not kept.
void record_launches(bool on);
std::vector<LaunchRecord> take_records();

// One global buffer of the launch.
class Buffer {
 public:
  explicit Buffer(const Span& span);

  const Span& span() const { return span_; }
  bool contains(uint64_t address, uint32_t bytes) const {
    return address >= begin_ && address - begin_ + bytes <= static_cast<uint64_t>(span_.bytes);
  }
  bool written_by_kernel() const {
    return span_.role == machine::Role::output || span_.role == machine::Role::partial;
  }

  // Marks the access's sectors as read or written.
  void touch(uint64_t address, uint32_t bytes, bool write);

  // Thread `writer` (from 1) writes; returns another thread that has written one of the bytes before, or 0.
  uint32_t claim(uint64_t address, uint32_t bytes, uint32_t writer);
  // Who wrote the byte; 0: nobody.
  uint32_t writer(uint64_t address) const {
    return writers_[address - begin_].load(std::memory_order_relaxed);
  }

  uint64_t unique(bool written) const;

 private:
  Span span_;
  uint64_t begin_;
  std::vector<std::atomic<uint64_t>> sectors_[2];  // bitmaps: read, written
  std::unique_ptr<std::atomic<uint32_t>[], void (*)(void*)> writers_ { nullptr, nullptr };
};

class LaunchChecks {
 public:
  // Poisons what the kernel is to write. Throws when buffers overlap in part, or a written one overlaps at
  // all.
  explicit LaunchChecks(const LaunchInfo& launch);

  // The buffer that holds all of the access, or null.
  Buffer* find(uint64_t address, uint32_t bytes) {
    for (Buffer& buffer : buffers_) {
      if (buffer.contains(address, bytes)) return &buffer;
    }
    return nullptr;
  }
  std::string nearest(uint64_t address) const;  // "12 bytes past the end of x (activation, 4096 bytes)"

  const Schedule& schedule() const { return controls_.schedule; }
  bool races() const { return controls_.races; }
  uint64_t index() const { return index_; }    // since the controls were set
  uint64_t serial() const { return serial_; }  // in the process, from 1

  void add(const Tally& tally);
  void finish(const LaunchInfo& launch);  // keeps the record, if asked to

 private:
  Controls controls_;
  uint64_t index_;
  uint64_t serial_;
  std::vector<Buffer> buffers_;
  std::mutex mutex_;
  Tally tally_;
};

const char* role_name(machine::Role role);

}  // namespace rk::sim
