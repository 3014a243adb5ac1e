#include <ptx/tma.h>

#include <cstring>
#include <string>

#include "engine/bulk.h"
#include "engine/report.h"

namespace ptx::detail {
namespace {

using rk::sim::BulkCopy;
using rk::sim::report;
using rk::sim::Site;

BulkCopy copy_of(const TensorMap& map, const int32_t* at, int rank, bool im2col, const char* what,
                 Site site) {
  BulkCopy copy;
  copy.tensor = true;
  std::memcpy(&copy.map, &map, sizeof copy.map);
  if (reinterpret_cast<uintptr_t>(&map) % 64 != 0)
    report(std::string(what) + ": the tensor map is not aligned to 64 bytes", site);
  if (copy.map.mark != rk::sim::kMapMark) report(std::string(what) + ": this is no tensor map", site);
  if (copy.map.rank != rank || (copy.map.im2col != 0) != im2col) {
    report(std::string(what) + " of rank " + std::to_string(rank) + (im2col ? ", im2col" : ", tiled") +
               " with a map of rank " + std::to_string(copy.map.rank) +
               (copy.map.im2col ? ", im2col" : ", tiled"),
           site);
  }
  std::memcpy(copy.at, at, static_cast<size_t>(rank) * sizeof *at);
  copy.bytes = uint32_t{copy.map.box[0]} * copy.map.element;
  if (im2col) {
    copy.bytes *= copy.map.box[1];
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t lower = copy.map.lower[axis];
      const int64_t upper = copy.map.extent(static_cast<uint32_t>(axis) + 1) - 1 + copy.map.upper[axis];
      if (at[axis + 1] < lower || at[axis + 1] > upper) {
        report(std::string(what) + ": the start pixel's " + (axis == 0 ? "w" : "h") + " is " +
                   std::to_string(at[axis + 1]) + ", outside the bounding box " + std::to_string(lower) +
                   ".." + std::to_string(upper),
               site);
      }
    }
  } else {
    for (int i = 1; i < rank; ++i) {
      copy.bytes *= (copy.map.box[i] + copy.map.element_stride[i] - 1u) / copy.map.element_stride[i];
    }
  }
  return copy;
}

}  // namespace

void tma_load(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint32_t blocks, const int32_t* at,
              int rank, Site site) {
  rk::sim::bulk_load(copy_of(map, at, rank, false, "tma_load", site), shared, mbarrier, blocks, site);
}

void tma_load_im2col(uint32_t shared, const TensorMap& map, uint32_t mbarrier, uint32_t blocks,
                     const int32_t* at, const uint16_t* offset, Site site) {
  BulkCopy copy = copy_of(map, at, 4, true, "tma_load_im2col", site);
  for (int axis = 0; axis < 2; ++axis) {
    if (offset[axis] > 255) report("tma_load_im2col: an offset above 255", site);
    copy.offset[axis] = offset[axis];
  }
  rk::sim::bulk_load(copy, shared, mbarrier, blocks, site);
}

void tma_store(const TensorMap& map, uint32_t shared, const int32_t* at, int rank, bool im2col, Site site) {
  rk::sim::bulk_store(copy_of(map, at, rank, im2col, "tma_store", site), shared, site);
}

}  // namespace ptx::detail
