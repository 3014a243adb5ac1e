// What resnet_kernels/measure/kernel_ceilings.py times.
#include "binding/tensors.h"

namespace rk::binding {
namespace {

// checksums [blocks, 32] of x [N, 64, H, W].
Tensor feed_ceiling(const Tensor& x, const std::string& boxes, int64_t blocks, int64_t copies) {
  constexpr const char* kOp = "feed_ceiling";
  constexpr const char* kBoxes[] = {"tiled", "im2col", "multicast"};
  size_t kind = 0;
  while (kind < std::size(kBoxes) && boxes != kBoxes[kind]) ++kind;
  STD_TORCH_CHECK(kind < std::size(kBoxes), kOp, ": no boxes '", boxes, "'");
  check_activation(x, kOp, "x");
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::BFloat16 && x.size(1) == 64 && x.numel() != 0, kOp,
                  ": x must be bfloat16 [N, 64, H, W]");
  STD_TORCH_CHECK(blocks >= 1 && copies >= 1, kOp, ": blocks and copies must be at least 1");
  const OnDeviceOf guard(x);
  Tensor checksums = torch::stable::empty({blocks, 32}, ScalarType::Int, std::nullopt, x.device());
  rk::feed_ceiling({.boxes = static_cast<FeedBoxes>(kind),
                    .n = x.size(0),
                    .h = x.size(2),
                    .w = x.size(3),
                    .blocks = blocks,
                    .copies = copies,
                    .x = x.const_data_ptr(),
                    .checksums = checksums.mutable_data_ptr(),
                    .stream = current_stream(x)});
  return checksums;
}

// products [blocks, 128, 256] of a [128, depth] and b [256, depth].
Tensor matrix_ceiling(const Tensor& a, const Tensor& b, int64_t blocks, int64_t repeats) {
  constexpr const char* kOp = "matrix_ceiling";
  const rk::DType dtype = dtype_of(a, kOp);
  const int64_t depth = kMatrixCeilingRowBytes / element_bytes(dtype);
  STD_TORCH_CHECK(b.scalar_type() == a.scalar_type() && b.device() == a.device(), kOp,
                  ": b has another dtype or device than a");
  STD_TORCH_CHECK(is_matrix(a) && a.size(0) == kMatrixCeilingRows && a.size(1) == depth && is_matrix(b) &&
                      b.size(0) == kMatrixCeilingColumns && b.size(1) == depth,
                  kOp, ": a and b must be dense [", kMatrixCeilingRows, ", ", depth, "] and [",
                  kMatrixCeilingColumns, ", ", depth, "]");
  STD_TORCH_CHECK(blocks >= 1 && repeats >= 1, kOp, ": blocks and repeats must be at least 1");
  const OnDeviceOf guard(a);
  Tensor products = empty_floats(a, {blocks, kMatrixCeilingRows, kMatrixCeilingColumns});
  rk::matrix_ceiling({.dtype = dtype,
                      .blocks = blocks,
                      .repeats = repeats,
                      .a = a.const_data_ptr(),
                      .b = b.const_data_ptr(),
                      .products = static_cast<float*>(products.mutable_data_ptr()),
                      .stream = current_stream(a)});
  return products;
}

RK_LIBRARY_IMPL(RK_NAMESPACE, RK_DISPATCH_KEY, m) {
  m.impl("feed_ceiling", TORCH_BOX(&feed_ceiling));
  m.impl("matrix_ceiling", TORCH_BOX(&matrix_ceiling));
}

}  // namespace
}  // namespace rk::binding
