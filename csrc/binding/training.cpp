// The operators of resnet_kernels/training: functional primitives of forward and backward.
//
// A convolution that is given a norm makes its input on load where chunks and geometry allow it, and where
// dispatch finds it worth while; elsewhere the elementwise kernel makes it first, to the same bits.
#include "binding/pooling.h"
#include "binding/tensors.h"

namespace rk::binding {
namespace {

int64_t pixels_of(const Tensor& x) { return x.size(0) * x.size(2) * x.size(3); }

// relu?(norm(x) + residual_norm(residual)) and ReLU's mask, by the elementwise kernel.
void normalise_to(const Tensor& x, const Normalise& normalise, Tensor& y, uint32_t* mask, const char* op) {
  bn_apply({.n = x.size(0),
            .h = x.size(2),
            .w = x.size(3),
            .channels = x.size(1),
            .dtype = dtype_of(x, op),
            .x = x.const_data_ptr(),
            .normalise = normalise,
            .y = y.mutable_data_ptr(),
            .mask = mask,
            .stream = current_stream(x)});
}

void reduce(const Tensor& partials, Tensor& result, RowTiles tiles, int64_t pixels, bool moments) {
  reduce_statistics({.partials = partials.const_data_ptr<float>(),
                     .result = result.mutable_data_ptr<float>(),
                     .tiles = tiles.tiles,
                     .tile_rows = tiles.tile_rows,
                     .pixels = pixels,
                     .channels = result.size(1),
                     .moments = moments,
                     .stream = current_stream(partials)});
}

// The stem's, of images and filters whose channels are not padded.
std::tuple<Tensor, Tensor> stem_statistics(const Tensor& x, const Tensor& weight, const ConvShape& shape,
                                           DType dtype) {
  const RowTiles tiles = stem_row_tiles(shape);
  Tensor y = empty_activation(x, shape.n, shape.k, shape.p(), shape.q());
  Tensor moments = empty_floats(x, {2, shape.k});
  Tensor partials = empty_floats(x, {tiles.tiles, kMomentsPerTile, shape.k});
  rk::stem_statistics({.shape = shape,
                       .dtype = dtype,
                       .x = x.const_data_ptr(),
                       .weight = weight.const_data_ptr(),
                       .y = y.mutable_data_ptr(),
                       .partials = partials.mutable_data_ptr<float>(),
                       .stream = current_stream(x)});
  reduce(partials, moments, tiles, shape.gemm_m(), true);
  return {y, moments};
}

// conv(a, weight) and its batch statistics [2, K]: mean and sum of squared deviations of the rounded output.
// a is x, or relu(norm(x) + residual), which is returned with its mask if `keep`.
std::tuple<Tensor, Tensor, Tensor, Tensor> conv_fprop_stats(const Tensor& x, const OptionalTensor& norm,
                                                            const OptionalTensor& residual,
                                                            const Tensor& weight, const Ints& stride,
                                                            const Ints& padding, const Ints& dilation,
                                                            bool keep, bool tf32) {
  constexpr const char* kOp = "conv_fprop_stats";
  const ConvShape shape = conv_shape(x, weight, stride, padding, dilation, kOp);
  const DType dtype = dtype_of(x, kOp);
  STD_TORCH_CHECK(norm || !(residual || keep), kOp, ": residual and keep need a norm");
  check_like(x, residual, kOp, "residual");
  const OnDeviceOf guard(x);
  Tensor a = keep ? empty_activation_like(x) : nothing(x, x.scalar_type());
  Tensor mask = keep ? empty_mask(x) : nothing(x, ScalarType::Int);
  auto* mask_data = keep ? static_cast<uint32_t*>(mask.mutable_data_ptr()) : nullptr;

  Normalise normalise = {};
  if (norm) {
    normalise = {.affine = affine_of_norm(*norm, x, kOp),
                 .residual = pointer(residual),
                 .residual_view = {},
                 .residual_affine = {},
                 .relu = true};
    const bool on_load = conv_transforms_on_load(dtype, shape.c, {x.const_data_ptr(), pointer(residual)}) &&
                         conv_transforms_on_load(dtype, shape.c, {weight.const_data_ptr()}) &&
                         (conv_is_pointwise(shape) || !(keep || residual));
    if (!on_load) {
      Tensor made = keep ? a : empty_activation_like(x);
      normalise_to(x, normalise, made, mask_data, kOp);
      const auto [y, moments, none, nor_mask] =
          conv_fprop_stats(made, std::nullopt, std::nullopt, weight, stride, padding, dilation, false, tf32);
      return {y, moments, a, mask};
    }
  } else if (stem_has_statistics(shape, dtype, x.const_data_ptr())) {
    const auto [y, moments] = stem_statistics(x, weight, shape, dtype);
    return {y, moments, a, mask};
  } else if (pads_channels(shape, dtype)) {
    return conv_fprop_stats(pad_channels(x, kOp), std::nullopt, std::nullopt, pad_channels(weight, kOp),
                            stride, padding, dilation, false, tf32);
  }

  Tensor y = empty_activation(x, shape.n, shape.k, shape.p(), shape.q());
  STD_TORCH_CHECK(y.numel() > 0, kOp, ": an empty output has no statistics");
  Tensor moments = empty_floats(x, {2, shape.k});
  ConvFprop problem = {.shape = shape,
                       .dtype = dtype,
                       .tf32 = tf32,
                       .relu = false,
                       .affine = {},
                       .x = x.const_data_ptr(),
                       .weight = weight.const_data_ptr(),
                       .residual = nullptr,
                       .residual_view = {},
                       .y = y.mutable_data_ptr(),
                       .partials = nullptr,
                       .stream = current_stream(x),
                       .normalise = norm ? &normalise : nullptr,
                       .a = keep ? a.mutable_data_ptr() : nullptr,
                       .mask = mask_data};
  problem.configuration = choose_configuration(problem);
  const RowTiles tiles = conv_fprop_row_tiles(problem);
  Tensor partials = empty_floats(x, {tiles.tiles, kMomentsPerTile, shape.k});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_fprop(problem);
  reduce(partials, moments, tiles, shape.gemm_m(), true);
  return {y, moments, a, mask};
}

// mask . (transposed conv(dy, weight) + residual_mask . residual) for a convolution whose input has the size
// [.., .., input_size]. dy is g, or with `coefficients` BatchNorm's gradient of g_mask . g, which is
// returned. With bn_input and norm also the sums over pixels of dx and of dx (bn_input - mean), [2, C], and
// with bn_relu only what passes the ReLU behind that BatchNorm.
std::tuple<Tensor, Tensor, Tensor> conv_dgrad(const Tensor& g, const OptionalTensor& g_mask,
                                              const OptionalTensor& y, const OptionalTensor& coefficients,
                                              const Tensor& weight, const OptionalTensor& residual,
                                              const OptionalTensor& residual_mask, const OptionalTensor& mask,
                                              const OptionalTensor& bn_input, const OptionalTensor& norm,
                                              bool bn_relu, const Ints& input_size, const Ints& stride,
                                              const Ints& padding, const Ints& dilation, bool tf32,
                                              const Ints& residual_stride) {
  constexpr const char* kOp = "conv_dgrad";
  check_activation(g, kOp, "g");
  check_pair(input_size, 1, kOp, "input_size");
  const DType dtype = dtype_of(g, kOp);
  const OnDeviceOf guard(g);
  Tensor dx = empty_activation(g, g.size(0), weight.size(1), input_size[0], input_size[1]);
  const ConvShape shape = conv_shape(dx, weight, stride, padding, dilation, kOp);
  STD_TORCH_CHECK(g.size(1) == shape.k && g.size(2) == shape.p() && g.size(3) == shape.q(), kOp,
                  ": g is not an output of ", describe(shape));
  check_same(g, weight, kOp, "weight");
  check_like(g, y, kOp, "y");
  const ResidualView view = residual_view(dx, residual, residual_stride, true, kOp);
  check_like(dx, bn_input, kOp, "bn_input");
  STD_TORCH_CHECK(bn_input.has_value() == norm.has_value(), kOp, ": bn_input and norm come together");
  STD_TORCH_CHECK(coefficients || !(y || g_mask), kOp, ": y and g_mask need coefficients");
  Tensor sums = empty_floats(g, {bn_input ? 2 : 0, shape.c});
  Tensor dy = coefficients ? empty_activation_like(g) : nothing(g, g.scalar_type());
  if (dx.numel() == 0) return {dx, sums, dy};

  BnGradient gradient = {};
  if (coefficients) {
    gradient = {.x = pointer(y),
                .mask = mask_pointer(g, g_mask, kOp),
                .coefficients = vectors_pointer(*coefficients, g, 4, shape.k, kOp, "coefficients")};
    if (!(conv_is_pointwise(shape) &&
          conv_transforms_on_load(dtype, shape.k, {g.const_data_ptr(), pointer(y), dy.const_data_ptr()}))) {
      rk::bn_backward_apply({.pixels = pixels_of(g),
                             .channels = shape.k,
                             .dtype = dtype,
                             .g = g.const_data_ptr(),
                             .gradient = gradient,
                             .dx = dy.mutable_data_ptr(),
                             .stream = current_stream(g)});
      const auto [made, made_sums, none] =
          conv_dgrad(dy, std::nullopt, std::nullopt, std::nullopt, weight, residual, residual_mask, mask,
                     bn_input, norm, bn_relu, input_size, stride, padding, dilation, tf32, residual_stride);
      return {made, made_sums, dy};
    }
  }
  ConvDgrad problem = {.shape = shape,
                       .dtype = dtype,
                       .tf32 = tf32,
                       .dy = g.const_data_ptr(),
                       .weight = weight.const_data_ptr(),
                       .transposed = nullptr,
                       .residual = pointer(residual),
                       .residual_view = view,
                       .residual_mask = residual ? mask_pointer(*residual, residual_mask, kOp) : nullptr,
                       .mask = mask_pointer(dx, mask, kOp),
                       .dx = dx.mutable_data_ptr(),
                       .partials = nullptr,
                       .bn_input = pointer(bn_input),
                       .bn = norm ? affine_of_norm(*norm, dx, kOp) : Affine{},
                       .bn_relu = bn_relu,
                       .stream = current_stream(g),
                       .gradient = coefficients ? &gradient : nullptr,
                       .gradient_out = coefficients ? dy.mutable_data_ptr() : nullptr};
  problem.configuration = choose_configuration(problem);
  Tensor transposed = torch::stable::empty({conv_dgrad_transposes(problem) ? shape.weight_elements() : 0},
                                           g.scalar_type(), std::nullopt, g.device());
  problem.transposed = transposed.mutable_data_ptr();
  if (!bn_input) {
    rk::conv_dgrad(problem);
    return {dx, sums, dy};
  }
  const int64_t tiles = conv_dgrad_row_tiles(problem);
  Tensor partials = empty_floats(g, {tiles, kSumsPerTile, shape.c});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_dgrad(problem);
  reduce(partials, sums, {.tiles = tiles, .tile_rows = 0}, pixels_of(dx), false);
  return {dx, sums, dy};
}

// sum over pixels of dy a^T: a is x, or relu(norm(x)).
Tensor conv_wgrad(const Tensor& dy, const Tensor& x, const OptionalTensor& norm, const Ints& kernel,
                  const Ints& stride, const Ints& padding, const Ints& dilation, bool tf32) {
  constexpr const char* kOp = "conv_wgrad";
  check_pair(kernel, 1, kOp, "kernel");
  check_activation(dy, kOp, "dy");
  check_same(x, dy, kOp, "dy");
  const DType dtype = dtype_of(x, kOp);
  const OnDeviceOf guard(x);
  Tensor dw = empty_activation(x, dy.size(1), x.size(1), kernel[0], kernel[1]);
  const ConvShape shape = conv_shape(x, dw, stride, padding, dilation, kOp);
  STD_TORCH_CHECK(dy.size(0) == shape.n && dy.size(2) == shape.p() && dy.size(3) == shape.q(), kOp,
                  ": dy is not an output of ", describe(shape));
  if (dw.numel() == 0) return dw;
  ConvWgrad problem = {.shape = shape,
                       .dtype = dtype,
                       .tf32 = tf32,
                       .dy = dy.const_data_ptr(),
                       .x = x.const_data_ptr(),
                       .partials = nullptr,
                       .dw = dw.mutable_data_ptr(),
                       .dw_channels = shape.c,
                       .stream = current_stream(x),
                       .normalise = nullptr};
  Normalise normalise = {};
  if (norm) {
    normalise = {.affine = affine_of_norm(*norm, x, kOp),
                 .residual = nullptr,
                 .residual_view = {},
                 .residual_affine = {},
                 .relu = true};
    if (!conv_wgrad_normalises_on_load(problem)) {
      Tensor a = empty_activation_like(x);
      normalise_to(x, normalise, a, nullptr, kOp);
      return conv_wgrad(dy, a, std::nullopt, kernel, stride, padding, dilation, tf32);
    }
    problem.normalise = &normalise;
  }
  Tensor source = x;
  if (pads_channels(shape, dtype)) {
    source = pad_channels(x, kOp);
    problem.x = source.const_data_ptr();
    problem.shape.c = source.size(1);
  }
  problem.configuration = choose_configuration(problem);
  Tensor partials = empty_floats(x, {conv_wgrad_splits(problem), problem.shape.weight_elements()});
  problem.partials = partials.mutable_data_ptr<float>();
  rk::conv_wgrad(problem);
  return dw;
}

// relu?(norm(x) + residual_norm(residual)), and ReLU's mask if `keep_mask`.
std::tuple<Tensor, Tensor> bn_normalise(const Tensor& x, const Tensor& norm, const OptionalTensor& residual,
                                        const OptionalTensor& residual_norm, bool relu, bool keep_mask,
                                        const Ints& residual_stride) {
  constexpr const char* kOp = "bn_normalise";
  check_activation(x, kOp, "x");
  const ResidualView view = residual_view(x, residual, residual_stride, false, kOp);
  STD_TORCH_CHECK(!residual_norm || (residual && view.channels == 0), kOp,
                  ": residual_norm needs a residual of x's shape");
  STD_TORCH_CHECK(relu || !keep_mask, kOp, ": only a ReLU has a mask");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation_like(x);
  Tensor mask = keep_mask ? empty_mask(x) : nothing(x, ScalarType::Int);
  if (y.numel() == 0) return {y, mask};
  const Normalise normalise = {
      .affine = affine_of_norm(norm, x, kOp),
      .residual = pointer(residual),
      .residual_view = view,
      .residual_affine = residual_norm ? affine_of_norm(*residual_norm, x, kOp) : Affine{},
      .relu = relu};
  normalise_to(x, normalise, y, keep_mask ? static_cast<uint32_t*>(mask.mutable_data_ptr()) : nullptr, kOp);
  return {y, mask};
}

// norm [4, C] (mean, scale = weight rstd, shift, rstd) and new running statistics (empty without old ones)
// from moments [2, C] over `count` pixels.
std::tuple<Tensor, Tensor, Tensor> bn_finalize(const Tensor& moments, const OptionalTensor& weight,
                                               const OptionalTensor& bias, double count, double eps,
                                               const OptionalTensor& running_mean,
                                               const OptionalTensor& running_var, double momentum) {
  constexpr const char* kOp = "bn_finalize";
  STD_TORCH_CHECK(moments.dim() == 2, kOp, ": moments must be [2, C]");
  STD_TORCH_CHECK(running_mean.has_value() == running_var.has_value(), kOp,
                  ": running_mean and running_var come together");
  const int64_t channels = moments.size(1);
  const int64_t running = running_mean ? channels : 0;
  const OnDeviceOf guard(moments);
  Tensor norm = empty_floats(moments, {4, channels});
  Tensor new_mean = empty_floats(moments, {running});
  Tensor new_var = empty_floats(moments, {running});
  if (channels == 0) return {norm, new_mean, new_var};
  rk::bn_finalize({.channels = channels,
                   .count = count,
                   .eps = static_cast<float>(eps),
                   .momentum = static_cast<float>(momentum),
                   .moments = vectors_pointer(moments, moments, 2, channels, kOp, "moments"),
                   .weight = vector_pointer(weight, moments, channels, kOp, "weight"),
                   .bias = vector_pointer(bias, moments, channels, kOp, "bias"),
                   .running_mean = vector_pointer(running_mean, moments, channels, kOp, "running_mean"),
                   .running_var = vector_pointer(running_var, moments, channels, kOp, "running_var"),
                   .norm = norm.mutable_data_ptr<float>(),
                   .new_running_mean = running_mean ? new_mean.mutable_data_ptr<float>() : nullptr,
                   .new_running_var = running_mean ? new_var.mutable_data_ptr<float>() : nullptr,
                   .stream = current_stream(moments)});
  return {norm, new_mean, new_var};
}

// h = mask . g (if `keep`, otherwise empty), and the sums [2, C] of h and h (x - mean) for the BatchNorm that
// x went into; those of another one too, or an empty tensor.
std::tuple<Tensor, Tensor, Tensor> bn_backward_reduce(const Tensor& g, const OptionalTensor& mask,
                                                      const Tensor& x, const Tensor& norm,
                                                      const OptionalTensor& other_x,
                                                      const OptionalTensor& other_norm, bool keep) {
  constexpr const char* kOp = "bn_backward_reduce";
  check_activation(x, kOp, "x");
  check_like(x, g, kOp, "g");
  check_like(x, other_x, kOp, "other_x");
  STD_TORCH_CHECK(other_x.has_value() == other_norm.has_value(), kOp,
                  ": other_x and other_norm come together");
  const OnDeviceOf guard(x);
  const int64_t channels = x.size(1);
  const int64_t pixels = pixels_of(x);
  STD_TORCH_CHECK(pixels > 0 && channels > 0, kOp, ": x is empty");
  Tensor h = keep ? empty_activation_like(x) : nothing(x, x.scalar_type());
  Tensor sums = empty_floats(x, {2, channels});
  Tensor other_sums = empty_floats(x, {other_x ? 2 : 0, channels});
  const int64_t ranges = bn_backward_ranges(pixels);
  Tensor partials = empty_floats(x, {ranges, kSumsPerTile, channels});
  Tensor other_partials = empty_floats(x, {other_x ? ranges : 0, kSumsPerTile, channels});
  rk::bn_backward_reduce({.pixels = pixels,
                          .channels = channels,
                          .dtype = dtype_of(x, kOp),
                          .g = g.const_data_ptr(),
                          .mask = mask_pointer(x, mask, kOp),
                          .x = x.const_data_ptr(),
                          .mean = affine_of_norm(norm, x, kOp).mean,
                          .other_x = pointer(other_x),
                          .other_mean = other_norm ? affine_of_norm(*other_norm, x, kOp).mean : nullptr,
                          .h = keep ? h.mutable_data_ptr() : nullptr,
                          .partials = partials.mutable_data_ptr<float>(),
                          .other_partials = other_x ? other_partials.mutable_data_ptr<float>() : nullptr,
                          .stream = current_stream(x)});
  reduce(partials, sums, {.tiles = ranges, .tile_rows = 0}, pixels, false);
  if (other_x) reduce(other_partials, other_sums, {.tiles = ranges, .tile_rows = 0}, pixels, false);
  return {h, sums, other_sums};
}

// Coefficients [4, C] of BatchNorm's gradient, and the gradients of its scale and shift. sums cover all ranks
// and local_sums this one; count is all ranks' pixels.
std::tuple<Tensor, Tensor, Tensor> bn_backward_finalize(const Tensor& norm, const Tensor& sums,
                                                        const Tensor& local_sums, double count,
                                                        bool batch_stats) {
  constexpr const char* kOp = "bn_backward_finalize";
  STD_TORCH_CHECK(norm.dim() == 2 && norm.size(1) > 0, kOp, ": norm must be [4, C]");
  const int64_t channels = norm.size(1);
  const OnDeviceOf guard(norm);
  Tensor coefficients = empty_floats(norm, {4, channels});
  Tensor dscale = empty_floats(norm, {channels});
  Tensor dshift = empty_floats(norm, {channels});
  rk::bn_backward_finalize({.channels = channels,
                            .count = count,
                            .batch_statistics = batch_stats,
                            .norm = vectors_pointer(norm, norm, 4, channels, kOp, "norm"),
                            .sums = vectors_pointer(sums, norm, 2, channels, kOp, "sums"),
                            .local_sums = vectors_pointer(local_sums, norm, 2, channels, kOp, "local_sums"),
                            .coefficients = coefficients.mutable_data_ptr<float>(),
                            .dscale = dscale.mutable_data_ptr<float>(),
                            .dshift = dshift.mutable_data_ptr<float>(),
                            .stream = current_stream(norm)});
  return {coefficients, dscale, dshift};
}

// BatchNorm's gradient of mask . g; x is not needed where the statistics were constants.
Tensor bn_backward_apply(const Tensor& g, const OptionalTensor& mask, const OptionalTensor& x,
                         const Tensor& coefficients) {
  constexpr const char* kOp = "bn_backward_apply";
  check_activation(g, kOp, "g");
  check_like(g, x, kOp, "x");
  const OnDeviceOf guard(g);
  Tensor dx = empty_activation_like(g);
  STD_TORCH_CHECK(dx.numel() > 0, kOp, ": g is empty");
  rk::bn_backward_apply(
      {.pixels = pixels_of(g),
       .channels = g.size(1),
       .dtype = dtype_of(g, kOp),
       .g = g.const_data_ptr(),
       .gradient = {.x = pointer(x),
                    .mask = mask_pointer(g, mask, kOp),
                    .coefficients = vectors_pointer(coefficients, g, 4, g.size(1), kOp, "coefficients")},
       .dx = dx.mutable_data_ptr(),
       .stream = current_stream(g)});
  return dx;
}

// With the position of each maximum in its window, uint8 [N, P, Q, C].
std::tuple<Tensor, Tensor> max_pool_indices(const Tensor& x, const Ints& kernel, const Ints& stride,
                                            const Ints& padding) {
  constexpr const char* kOp = "max_pool_indices";
  rk::MaxPool problem = pooling(x, x.size(2), x.size(3), kernel, stride, padding, kOp);
  STD_TORCH_CHECK(problem.r * problem.s <= 256, kOp, ": a byte counts 256 positions of a window at most");
  const OnDeviceOf guard(x);
  Tensor y = empty_activation(x, problem.n, problem.c, problem.p(), problem.q());
  Tensor indices = torch::stable::empty({problem.n, problem.p(), problem.q(), problem.c}, ScalarType::Byte,
                                        std::nullopt, x.device());
  if (y.numel() == 0) return {y, indices};
  problem.x = x.const_data_ptr();
  problem.y = y.mutable_data_ptr();
  problem.indices = static_cast<uint8_t*>(indices.mutable_data_ptr());
  rk::max_pool(problem);
  return {y, indices};
}

Tensor max_pool_backward(const Tensor& dy, const Tensor& indices, const Ints& input_size, const Ints& kernel,
                         const Ints& stride, const Ints& padding) {
  constexpr const char* kOp = "max_pool_backward";
  check_pair(input_size, 1, kOp, "input_size");
  rk::MaxPool problem = pooling(dy, input_size[0], input_size[1], kernel, stride, padding, kOp);
  STD_TORCH_CHECK(dy.size(2) == problem.p() && dy.size(3) == problem.q(), kOp,
                  ": dy is not an output of this pooling");
  STD_TORCH_CHECK(indices.scalar_type() == ScalarType::Byte && indices.is_contiguous() &&
                      indices.device() == dy.device() && indices.numel() == dy.numel(),
                  kOp, ": indices must be a contiguous uint8 [N, P, Q, C]");
  const OnDeviceOf guard(dy);
  Tensor dx = empty_activation(dy, problem.n, problem.c, problem.h, problem.w);
  if (dx.numel() == 0) return dx;
  problem.indices = const_cast<uint8_t*>(static_cast<const uint8_t*>(indices.const_data_ptr()));
  rk::max_pool_backward(problem, dy.const_data_ptr(), dx.mutable_data_ptr());
  return dx;
}

Tensor global_avg_pool_backward(const Tensor& dy, const Ints& input_size) {
  constexpr const char* kOp = "global_avg_pool_backward";
  STD_TORCH_CHECK(is_matrix(dy), kOp, ": dy must be a dense matrix [N, C]");
  check_pair(input_size, 1, kOp, "input_size");
  const OnDeviceOf guard(dy);
  Tensor dx = empty_activation(dy, dy.size(0), dy.size(1), input_size[0], input_size[1]);
  if (dx.numel() == 0) return dx;
  rk::global_avg_pool_backward({.n = dy.size(0),
                                .pixels = input_size[0] * input_size[1],
                                .c = dy.size(1),
                                .dtype = dtype_of(dy, kOp),
                                .x = dy.const_data_ptr(),
                                .y = dx.mutable_data_ptr(),
                                .stream = current_stream(dy)});
  return dx;
}

RK_LIBRARY_IMPL(RK_NAMESPACE, RK_DISPATCH_KEY, m) {
  m.impl("conv_fprop_stats", TORCH_BOX(&conv_fprop_stats));
  m.impl("conv_dgrad", TORCH_BOX(&conv_dgrad));
  m.impl("conv_wgrad", TORCH_BOX(&conv_wgrad));
  m.impl("bn_normalise", TORCH_BOX(&bn_normalise));
  m.impl("bn_finalize", TORCH_BOX(&bn_finalize));
  m.impl("bn_backward_reduce", TORCH_BOX(&bn_backward_reduce));
  m.impl("bn_backward_finalize", TORCH_BOX(&bn_backward_finalize));
  m.impl("bn_backward_apply", TORCH_BOX(&bn_backward_apply));
  m.impl("max_pool_indices", TORCH_BOX(&max_pool_indices));
  m.impl("max_pool_backward", TORCH_BOX(&max_pool_backward));
  m.impl("global_avg_pool_backward", TORCH_BOX(&global_avg_pool_backward));
}

}  // namespace
}  // namespace rk::binding
