// What every dispatch asks of a problem: extents that kernels can index, rows that 16-byte accesses fit.
#pragma once

#include <initializer_list>
#include <vector>

#include "api.h"
#include "tile/conv_geometry.h"

namespace rk::dispatch {

// Throws std::runtime_error when an extent does not fit the kernels' 31-bit indices.
void check_indices(const ConvShape& shape);

// Forward convolution as an implicit GEMM. Throws std::runtime_error when an extent does not fit their 31-bit
// indices.
tile::ConvGeometry fprop_geometry(const ConvShape& shape);

// Backward-data convolution as implicit GEMMs over dy and the transposed weights, one a phase of the output:
// the pixels that share their remainders modulo the stride. Phases with more taps come first; phases without
// pixels are left out.
std::vector<tile::ConvGeometry> dgrad_geometry(const ConvShape& shape);

// Throws std::runtime_error unless 1 <= value <= 2^31 - spare; `what` says what it counts.
int32_t index32(int64_t value, const char* what, int32_t spare = 1);

// Whether the residual's rows, where it has channels of its own, are whole 16-byte chunks.
bool aligned_view(DType dtype, const ResidualView& view);

// Are all tensors (null: absent) aligned to 16 bytes?
bool aligned(std::initializer_list<const void*> tensors);

// And made of rows of whole chunks of channels?
bool aligned_chunks(DType dtype, int64_t channels, std::initializer_list<const void*> tensors);

}  // namespace rk::dispatch
