// The cache of tensor maps: what `ask` of it returns is compared with a map that is encoded anew.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "machine/tensor_map_cache.h"

namespace {

using namespace rk::machine;

TiledTensor tiled(uint32_t number) {
  return {.type = ElementType::bf16,
          .rank = 2,
          .data = reinterpret_cast<const void*>(uintptr_t{4096} + 16 * (number / 2)),
          .extent = {64, 128 + number % 2},
          .stride = {128},
          .box = {64, 8},
          .element_stride = {1, 1},
          .swizzle = Swizzle::span128};
}

Im2colTensor im2col(uint32_t number) {
  return {.type = ElementType::bf16,
          .data = reinterpret_cast<const void*>(uintptr_t{4096}),
          .extent = {64, 14, 14, 2},
          .stride = {128, 14 * 128, 14 * 14 * 128},
          .lower = {-1, -static_cast<int>(number)},
          .upper = {-1, -1},
          .channels = 64,
          .pixels = 128,
          .element_stride = {1, 1},
          .swizzle = Swizzle::span128};
}

template <class Tensor>
bool right(const Tensor& tensor) {
  const TensorMap cached = encode_cached(tensor), anew = encode(tensor);
  return std::memcmp(&cached, &anew, sizeof anew) == 0;
}

}  // namespace

// counts: hits, misses and what is kept of the whole process. False where a map is not what encode gives.
extern "C" __attribute__((visibility("default"))) bool rk_test_tensor_maps(bool walk, uint32_t first,
                                                                           uint32_t count, uint32_t threads,
                                                                           uint64_t* counts) {
  std::atomic<bool> all = true;
  std::vector<std::thread> team;
  for (uint32_t thread = 0; thread < threads; ++thread) {
    team.emplace_back([&] {
      for (uint32_t i = first; i < first + count; ++i) {
        if (!(walk ? right(im2col(i)) : right(tiled(i)))) all = false;
      }
    });
  }
  for (std::thread& thread : team) thread.join();
  const TensorMapCacheCounts found = tensor_map_cache_counts();
  counts[0] = found.hits;
  counts[1] = found.misses;
  counts[2] = found.kept;
  return all;
}

// What cannot be encoded throws, however often it is asked for: true.
extern "C" __attribute__((visibility("default"))) bool rk_test_tensor_map_refused() {
  TiledTensor wrong = tiled(0);
  wrong.data = reinterpret_cast<const void*>(uintptr_t{4104});
  for (int i = 0; i < 2; ++i) {
    try {
      encode_cached(wrong);
      return false;
    } catch (const std::invalid_argument&) {
    }
  }
  return true;
}
