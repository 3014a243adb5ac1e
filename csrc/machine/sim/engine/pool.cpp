#include "engine/pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rk::sim {
namespace {

constexpr uint64_t kNone = ~uint64_t{0};

// One launch being worked on. Clusters are handed out in order; after a failure only lower ones still run, so
// that the lowest failing cluster is found always.
struct Work {
  Work(const LaunchInfo& launch, uint64_t clusters) : launch(launch), clusters(clusters) {}

  const LaunchInfo& launch;
  const uint64_t clusters;
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::atomic<uint64_t> failed{kNone};
  std::exception_ptr error;

  void run(Core& core) {
    for (;;) {
      const uint64_t cluster = next.fetch_add(1, std::memory_order_relaxed);
      if (cluster >= clusters || cluster > failed.load(std::memory_order_relaxed)) return;
      try {
        core.run_cluster(launch, cluster);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (cluster < failed.load(std::memory_order_relaxed)) {
          failed.store(cluster, std::memory_order_relaxed);
          error = std::current_exception();
        }
      }
    }
  }
};

class Pool {
 public:
  // Grows to `threads` helpers; they sleep between launches and are never joined.
  void run(Work& work, uint32_t helpers) {
    helpers = static_cast<uint32_t>(std::min<uint64_t>(helpers, work.clusters - 1));
    while (started_ < helpers) {
      std::thread([this, id = started_ + 1] { serve(id); }).detach();
      ++started_;
    }
    if (helpers != 0) {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      wanted_ = busy_ = helpers;
      ++generation_;
      wake_.notify_all();
    }
    if (!own_) own_ = std::make_unique<Core>();
    work.run(*own_);
    if (helpers != 0) {
      std::unique_lock lock(mutex_);
      idle_.wait(lock, [this] { return busy_ == 0; });
      work_ = nullptr;
    }
  }

 private:
  void serve(uint32_t id) {
    Core core;
    uint64_t seen = 0;
    for (;;) {
      Work* work = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (id > wanted_) continue;
        work = work_;
      }
      work->run(core);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) idle_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Work* work_ = nullptr;
  uint64_t generation_ = 0;
  uint32_t wanted_ = 0, busy_ = 0, started_ = 0;
  std::unique_ptr<Core> own_;  // of whichever thread launches
};

// One launch at a time. Held across fork, so that the child finds it free and no launch half done; the child
// has none of the parent's threads and starts its own pool (the parent's memory is left alone).
std::mutex& launch_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}
Pool* pool = nullptr;
std::atomic<uint32_t> worker_count{0};

uint32_t default_workers() { return std::max(1u, std::thread::hardware_concurrency()); }

[[maybe_unused]] const int at_fork =
    pthread_atfork([] { launch_mutex().lock(); }, [] { launch_mutex().unlock(); },
                   [] {
                     pool = nullptr;
                     launch_mutex().unlock();
                   });

}  // namespace

void set_workers(uint32_t count) { worker_count = count; }

uint32_t workers() {
  const uint32_t count = worker_count;
  return count == 0 ? default_workers() : count;
}

void run_grid(const LaunchInfo& launch) {
  const auto& config = launch.config;
  const uint64_t blocks = uint64_t{config.grid.x} * config.grid.y * config.grid.z;
  const uint64_t per_cluster = uint64_t{config.cluster.x} * config.cluster.y * config.cluster.z;
  if (blocks == 0) return;
  const std::lock_guard lock(launch_mutex());
  if (pool == nullptr) pool = new Pool;
  Work work(launch, blocks / per_cluster);
  pool->run(work, workers() - 1);
  if (work.error) std::rethrow_exception(work.error);
}

}  // namespace rk::sim
