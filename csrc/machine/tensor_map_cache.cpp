#include "machine/tensor_map_cache.h"

#include <mutex>
#include <unordered_map>
#include <vector>

namespace rk::machine {
namespace {

// What tells the tensors of a network apart; == compares everything.
struct Hash {
  template <class Tensor>
  size_t operator()(const Tensor& tensor) const {
    uint64_t hash = reinterpret_cast<uintptr_t>(tensor.data);
    for (const uint64_t extent : tensor.extent) mix(hash, extent);
    mix(hash, size(tensor));
    return hash;
  }

  static void mix(uint64_t& hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  static uint64_t size(const TiledTensor& t) { return uint64_t{t.box[1]} << 32 | t.box[0]; }
  static uint64_t size(const Im2colTensor& t) { return uint64_t{t.pixels} << 32 | t.channels; }
};

template <class Tensor>
class Cache {
 public:
  TensorMap operator()(const Tensor& tensor) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = maps_.find(tensor);
      if (found != maps_.end()) {
        ++hits_;
        return found->second;
      }
      ++misses_;
    }
    const TensorMap map = encode(tensor);  // without the lock: two threads may encode the same
    const std::lock_guard lock(mutex_);
    if (!maps_.emplace(tensor, map).second) return map;
    if (ages_.size() < kCachedTensorMaps) {
      ages_.push_back(tensor);
    } else {
      maps_.erase(ages_[oldest_]);
      ages_[oldest_] = tensor;
      oldest_ = (oldest_ + 1) % kCachedTensorMaps;
    }
    return map;
  }

  void count(TensorMapCacheCounts& counts) {
    const std::lock_guard lock(mutex_);
    counts.hits += hits_;
    counts.misses += misses_;
    counts.kept += maps_.size();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<Tensor, TensorMap, Hash> maps_;
  std::vector<Tensor> ages_;  // a ring
  size_t oldest_ = 0;
  uint64_t hits_ = 0, misses_ = 0;
};

// Never destroyed: a thread may launch while the process ends.
template <class Tensor>
Cache<Tensor>& cache() {
  static auto* const kept = new Cache<Tensor>;
  return *kept;
}

}  // namespace

TensorMap encode_cached(const TiledTensor& tensor) { return cache<TiledTensor>()(tensor); }
TensorMap encode_cached(const Im2colTensor& tensor) { return cache<Im2colTensor>()(tensor); }

TensorMapCacheCounts tensor_map_cache_counts() {
  TensorMapCacheCounts counts = {};
  cache<TiledTensor>().count(counts);
  cache<Im2colTensor>().count(counts);
  return counts;
}

}  // namespace rk::machine
