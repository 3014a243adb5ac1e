// Tensor maps that were encoded before: the driver's encoder takes some microseconds, and a network's tensors
// come back to the same addresses with every step.
//
// A map is a function of what it describes, address and geometry, and of nothing that lies at the address:
// the key is all of that, so a map can never be stale. Memory that was given back and handed out again as
// another tensor has another geometry, and so another key, or the same map.
#pragma once

#include <cstdint>

#include "machine/tensor_map.h"

namespace rk::machine {

constexpr uint32_t kCachedTensorMaps = 1024;  // of each kind; then the oldest makes room

// As encode; from any thread.
TensorMap encode_cached(const TiledTensor& tensor);
TensorMap encode_cached(const Im2colTensor& tensor);

struct TensorMapCacheCounts {
  uint64_t hits, misses, kept;  // of both kinds; what cannot be encoded is a miss each time
};
TensorMapCacheCounts tensor_map_cache_counts();

}  // namespace rk::machine
