// What a convolution's epilogue on sm_90 has in shared memory: boxes of 64 pixels and 64 channels, two that
// go out to y in turn, and, in a ring, those that a producer brings: of the residual and of BatchNorm's
// input. Each consumer has its own.
#pragma once

#include <cstdint>

#include <ptx/bulk.h>
#include <ptx/fence.h>

#include "tile/conv_geometry.h"
#include "tile/epilogue_params.h"
#include "tile/sm90/consumer.h"
#include "tile/sm90/pixel_boxes.h"
#include "tile/sm90/ring.h"
#include "tile/swizzle.h"

namespace rk::tile {

constexpr int kBoxRows = 64;
constexpr uint32_t kBoxBytes = kBoxRows * kRowBytes;

// What an epilogue can do; what it cannot costs it neither registers nor shared memory.
enum class EpilogueKind : uint8_t {
  plain,     // fprop: affine map, ReLU
  residual,  // and a residual
  moments,   // fprop of training: nothing but the moments of y
  backward,  // dgrad: residual, masks, sums for BatchNorm
};

constexpr bool has_sources(EpilogueKind kind) {
  return kind == EpilogueKind::residual || kind == EpilogueKind::backward;
}
constexpr bool has_statistics(EpilogueKind kind) {
  return kind == EpilogueKind::moments || kind == EpilogueKind::backward;
}

// The tensor maps of one phase's rows; those of absent tensors are not used.
struct OutputMaps {
  machine::TensorMap y, residual, bn_input;
};

template <EpilogueKind kKind>
class EpilogueBoxes {
  static constexpr int kOutputs = 2;
  static constexpr int kSources = has_sources(kKind) ? 2 : 0;

 public:
  using SourceRing = Ring<kSources == 0 ? 1 : kSources, 4>;
  using Position = typename SourceRing::Position;

  // Shared memory; boxes start at multiples of 1024.
  static constexpr uint32_t kBoxMemory = kConsumers * (kOutputs + kSources) * kBoxBytes;
  static constexpr uint32_t kBarrierMemory = kSources == 0 ? 0 : kConsumers * SourceRing::kBarrierBytes;

  RK_DEVICE EpilogueBoxes(const Epilogue& epilogue, uint32_t boxes, uint32_t barriers)
      : epilogue_(epilogue), boxes_(boxes), barriers_(barriers) {}

  // One thread, as Ring::init.
  RK_DEVICE void init() const {
    if constexpr (kSources != 0) {
      RK_UNROLL
      for (uint32_t consumer = 0; consumer < kConsumers; ++consumer) ring(consumer).init();
    }
  }

  RK_DEVICE bool has_affine() const {
    const Affine& affine = epilogue_.affine;
    return affine.weight != nullptr || affine.bias != nullptr || affine.mean != nullptr ||
           affine.var != nullptr;
  }
  RK_DEVICE bool has_residual() const { return kSources != 0 && epilogue_.residual != nullptr; }
  RK_DEVICE bool has_bn_input() const {
    return kKind == EpilogueKind::backward && epilogue_.statistics.kind != Statistics::Kind::none;
  }

  // ---- the producer of one consumer's boxes: one thread

  // What the epilogue reads of 64 rows from `row` on and 64 channels.
  RK_DEVICE void load(const OutputMaps& maps, const ConvGeometry& conv, int32_t row, int32_t channel,
                      uint32_t consumer) {
    if constexpr (kSources != 0) {
      const PixelRow at(conv, row);
      const auto load = [&](const machine::TensorMap& map) {
        const uint32_t full = ring(consumer).acquire(source_, kBoxBytes);
        load_output(source_box(consumer, source_), map, full, conv, at, channel);
        source_.advance();
      };
      if (has_residual()) load(maps.residual);
      if (has_bn_input()) load(maps.bn_input);
    }
  }

  // ---- a consumer: 128 threads

  // Waits for the next box; `at` says later which one it was.
  RK_DEVICE uint32_t await(uint32_t consumer, Position& at) {
    at = source_;
    ring(consumer).await(at);
    source_.advance();
    return source_box(consumer, at);
  }

  // As Ring::release.
  RK_DEVICE void release(uint32_t consumer, const Position& at) const { ring(consumer).release(at); }

  // A box to be filled: it has been read, whatever went out of it before.
  RK_DEVICE uint32_t begin_output(uint32_t consumer) const {
    if (leads_consumer()) ptx::bulk_wait_read<kOutputs - 1>();
    consumer_barrier(consumer);
    return boxes_ + (consumer * kOutputs + output_) * kBoxBytes;
  }

  // It is full, and goes out.
  RK_DEVICE void end_output(const machine::TensorMap& map, const ConvGeometry& conv, int32_t row,
                            int32_t channel, uint32_t consumer) {
    ptx::fence_proxy_async();
    consumer_barrier(consumer);
    if (leads_consumer()) {
      store_output(map, boxes_ + (consumer * kOutputs + output_) * kBoxBytes, conv, PixelRow(conv, row),
                   channel);
      ptx::bulk_commit();
    }
    output_ = (output_ + 1) % kOutputs;
  }

  // When there is nothing more to do: boxes must be read before the block ends.
  RK_DEVICE void drain() const {
    if (leads_consumer()) ptx::bulk_wait_read<0>();
  }

 private:
  RK_DEVICE SourceRing ring(uint32_t consumer) const {
    return {barriers_ + consumer * SourceRing::kBarrierBytes};
  }
  RK_DEVICE uint32_t source_box(uint32_t consumer, const Position& at) const {
    return boxes_ + (kConsumers * kOutputs + consumer * kSources + at.stage) * kBoxBytes;
  }

  const Epilogue& epilogue_;
  uint32_t boxes_, barriers_;
  uint32_t output_ = 0;
  Position source_;
};

}  // namespace rk::tile
