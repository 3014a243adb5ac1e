// The seam between PyTorch and the kernels: plain structs in, nothing of torch, nothing of CUDA.
//
// binding/ fills these structs from tensors; dispatch/ chooses a kernel and its tile; kernels/ run on the
// machine (CUDA or the simulator) that this translation unit was compiled against. Every function runs on the
// stream it is given, allocates nothing, synchronises nothing, and throws std::runtime_error with the problem
// in the message when it cannot run.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace rk {

using Stream = void*;  // a cudaStream_t on the GPU; the simulator runs at once and ignores it

enum class DType : uint8_t { bf16, f16, f32 };

constexpr int64_t element_bytes(DType dtype) { return dtype == DType::f32 ? 4 : 2; }
constexpr const char* dtype_name(DType dtype) {
  return dtype == DType::bf16 ? "bfloat16" : dtype == DType::f16 ? "float16" : "float32";
}

// One convolution: activations [n, h, w, c], weights [k, r, s, c], output [n, p, q, k].
struct ConvShape {
  int64_t n, h, w, c;
  int64_t k, r, s;
  int64_t stride_h, stride_w;
  int64_t pad_h, pad_w;
  int64_t dilation_h, dilation_w;

  constexpr int64_t p() const { return (h + 2 * pad_h - dilation_h * (r - 1) - 1) / stride_h + 1; }
  constexpr int64_t q() const { return (w + 2 * pad_w - dilation_w * (s - 1) - 1) / stride_w + 1; }
  constexpr int64_t gemm_m() const { return n * p() * q(); }
  constexpr int64_t gemm_k() const { return r * s * c; }
  constexpr int64_t weight_elements() const { return k * r * s * c; }
  bool operator==(const ConvShape&) const = default;
};

std::string describe(const ConvShape& shape);

// Per-channel y = s x + b in float32; any pointer may be null (weight 1, bias 0).
// With mean and var this is BatchNorm in eval mode: s = weight / sqrt(var + eps), b = bias - mean s.
struct Affine {
  const float* weight;
  const float* bias;
  const float* mean;
  const float* var;
  float eps;
};

// Where a residual lies that is not of the output's shape: the paper's shortcut A, which takes every
// stride-th pixel and has no values for the channels that are new, and its transpose in backward. Channel c
// of output pixel (h, w) adds channel c of residual pixel (h multiply / divide, w multiply / divide), nothing
// where the division leaves a remainder or the residual has no such channel.
struct ResidualView {
  int32_t channels;  // 0: the residual is of the output's shape, and the rest means nothing
  int32_t h, w;
  int32_t multiply_h, multiply_w;
  int32_t divide_h, divide_w;
};

// relu?(affine(x) + residual_affine(residual)), rounded: what stands before a convolution in training. A
// convolution may compute it while it loads x, so that it need not be read again, or even written; then the
// residual has no affine map of its own.
struct Normalise {
  Affine affine;
  const void* residual;  // or null
  ResidualView residual_view;
  Affine residual_affine;
  bool relu;
};

// BatchNorm's gradient, dx = slope (mask . g - offset - (x - mean) tilt), rounded; see bn_backward_apply.
struct BnGradient {
  const void* x;              // BatchNorm's input; null where tilt is nothing but zeros
  const uint32_t* mask;       // of the ReLU behind BatchNorm, or null
  const float* coefficients;  // [4, channels]: slope, offset, mean, tilt
};

// A configuration is one way to compute a convolution: a family of kernels and a tile. A problem's
// `configuration` is the one that was chosen for it, or kChoose, and then it is chosen when the problem runs:
// who allocates by a choice first enters it, because a tuned table may change in between.
constexpr int kChoose = -1;

// Images of so few channels that a pixel fills no 16-byte chunk: the caller pads x and weight to whole chunks
// first, because gathering single elements for every tap would cost far more than multiplying zeros.
constexpr int64_t chunk_elements(DType dtype) { return 16 / element_bytes(dtype); }
constexpr bool pads_channels(const ConvShape& shape, DType dtype) {
  return shape.c < chunk_elements(dtype) && shape.r * shape.s > 1;
}

// y[row, 0 .. chunk - 1] = x[row, 0 .. c - 1], 0, ...
struct PadChannels {
  int64_t rows, c;
  DType dtype;
  const void* x;
  void* y;
  Stream stream;
};
void pad_channels(const PadChannels& problem);

// Statistics leave a convolution as partials by tile of pixels, float32 [tiles, values, channels]: the pivot,
// mean - pivot and M2 of y; or the two sums of BatchNorm's backward.
constexpr int64_t kMomentsPerTile = 3;
constexpr int64_t kSumsPerTile = 2;

// y = relu?(affine(conv(a, weight)) + residual), rounded last; a is x, or normalise(x).
struct ConvFprop {
  ConvShape shape;
  DType dtype;
  bool
      tf32;  // float32 only: products of inputs rounded to TF32 on the tensor cores instead of strict float32
  bool relu;
  Affine affine;
  const void* x;         // [n, h, w, c]
  const void* weight;    // [k, r, s, c]
  const void* residual;  // or null
  ResidualView residual_view;
  void* y;          // [n, p, q, k]
  float* partials;  // null, or [tiles, kMomentsPerTile, k]: moments of the rounded y
  Stream stream;

  const Normalise* normalise;  // or null; only where conv_transforms_on_load
  void* a;                     // or null; with normalise and only where conv_is_pointwise: a, written too
  uint32_t* mask;              // with a: bit = channel, set where a > 0, [n, h, w, ceil(c / 32)]

  int configuration = kChoose;
};
void conv_fprop(const ConvFprop& problem);
int choose_configuration(const ConvFprop& problem);

// A convolution that is a matrix product over pixels: every element of x enters once.
constexpr bool conv_is_pointwise(const ConvShape& shape) {
  return shape.r == 1 && shape.s == 1 && shape.stride_h == 1 && shape.stride_w == 1 && shape.pad_h == 0 &&
         shape.pad_w == 0;
}

// Whether the channels of a convolution's source make whole 16-byte chunks, which what happens on load needs.
bool conv_transforms_on_load(DType dtype, int64_t channels, std::initializer_list<const void*> sources);

// How conv_fprop cuts the n p q pixels: tiles of `tile_rows`, the last one smaller.
struct RowTiles {
  int64_t tiles, tile_rows;
};
RowTiles conv_fprop_row_tiles(const ConvFprop& problem);

// dx = mask . (transposed conv(dy, weight) + residual), rounded last; and the sums BatchNorm's backward needs
// of it. dy is given, or BatchNorm's gradient of it is taken on load.
struct ConvDgrad {
  ConvShape shape;  // of the forward convolution
  DType dtype;
  bool tf32;
  const void* dy;        // [n, p, q, k]
  const void* weight;    // [k, r, s, c]
  void* transposed;      // workspace: the weights' size, if conv_dgrad_transposes
  const void* residual;  // gradient that arrives beside dy's, or null
  ResidualView residual_view;
  const uint32_t* residual_mask;  // what of it arrives, as mask, or null
  const uint32_t* mask;           // bit = the gradient passes, [n, h, w, ceil(c / 32)], or null
  void* dx;                       // [n, h, w, c]
  float*
      partials;  // null, or [tiles, kSumsPerTile, c]: sum dx and sum dx (bn_input - mean), per tile of pixels
  const void* bn_input;  // [n, h, w, c], with partials
  Affine bn;             // of bn_input, with partials
  bool bn_relu;          // the gradient also passes only where bn(bn_input) > 0
  Stream stream;

  const BnGradient* gradient;  // or null; only where conv_is_pointwise and conv_transforms_on_load
  void* gradient_out;          // with gradient: BatchNorm's gradient, written too, [n, p, q, k]

  int configuration = kChoose;
};
void conv_dgrad(const ConvDgrad& problem);
int choose_configuration(const ConvDgrad& problem);
int64_t conv_dgrad_row_tiles(const ConvDgrad& problem);
bool conv_dgrad_transposes(const ConvDgrad& problem);  // whether it multiplies transposed weights

// dw = sum over pixels of dy a^T, in float32 over a fixed number of ranges of pixels, added in order, rounded
// last; a is x, or normalise(x).
struct ConvWgrad {
  ConvShape shape;
  DType dtype;
  bool tf32;
  const void* dy;       // [n, p, q, k]
  const void* x;        // [n, h, w, c]
  float* partials;      // workspace: [splits, k, r, s, c]
  void* dw;             // [k, r, s, dw_channels]
  int64_t dw_channels;  // c, or fewer: the others are padding
  Stream stream;

  const Normalise* normalise;  // or null; without a residual, and only where conv_wgrad_normalises_on_load

  int configuration = kChoose;
};
void conv_wgrad(const ConvWgrad& problem);
int choose_configuration(const ConvWgrad& problem);
int64_t conv_wgrad_splits(const ConvWgrad& problem);
// Whether the kernel that is chosen for the problem, here without it, can take a `normalise`: sm_90's only
// where that is thought cheaper than an elementwise pass before it.
bool conv_wgrad_normalises_on_load(const ConvWgrad& problem);

// What a choice is made by: the problem without its tensors, on a GPU of so many multiprocessors.
enum class Operation : uint8_t { fprop, dgrad, wgrad };
struct ConvTask {
  Operation operation;
  DType dtype;
  bool tf32;
  ConvShape shape;
  int64_t sm_count;

  bool operator==(const ConvTask&) const = default;
};

// What is multiplied: the source itself, or what is made of it while it is loaded; of it alone, of it and a
// second tensor of its shape, or in a way that only the portable kernels know.
enum class OnLoad : uint8_t { nothing, one, two, other };

// What of a problem can rule configurations out beside its task.
struct ConvDemands {
  bool aligned_source;  // to 16 bytes: what the portable kernels multiply
  bool aligned_rest;    // and every other tensor
  bool residual_view;
  OnLoad on_load;
};

// What the cost model says of one configuration; see dispatch/cost_model.h.
struct ConvPrediction {
  std::string configuration;
  std::string refused;  // why it cannot compute the problem; empty if it can, and only then the rest holds
  bool chosen;
  int64_t tiles;
  double waves, efficiency;
  double memory, feed, math, launches, seconds;
  std::string bound;
};
constexpr int kThisMachine =
    0;  // as a compute capability: the current GPU's, with the kernels that are there
std::vector<ConvPrediction> predict_conv(const ConvTask& task, const ConvDemands& demands,
                                         int compute_capability);

// The tuned table of this process: the configuration for a task goes before what the model would choose,
// wherever it is legal. Throw std::runtime_error for a name that is none.
void tune_conv(const ConvTask& task, const std::string& configuration);
void forget_tuned();
// Every problem that it can compute takes this configuration, until another is forced or none (""). Returns
// the one before.
std::string force_configuration(const std::string& configuration);

// The tiles' partials become [2, channels]: the mean and M2 of all (moments), or added sums.
struct StatisticsReduction {
  const float* partials;  // [tiles, kMomentsPerTile or kSumsPerTile, channels]
  float* result;          // [2, channels]
  int64_t tiles, tile_rows, pixels, channels;
  bool moments;
  Stream stream;
};
void reduce_statistics(const StatisticsReduction& problem);

// y = max_pool_3x3/2(relu(affine(conv(x, weight)))): the stem of a residual network.
// True when one fused kernel covers the problem; otherwise the caller runs conv_fprop and max_pool.
bool stem_is_fused(const ConvShape& shape, DType dtype);
struct Stem {
  ConvShape shape;
  DType dtype;
  Affine affine;
  const void* x;       // [n, h, w, c]
  const void* weight;  // [k, r, s, c]
  void* y;             // [n, (p + 1) / 2, (q + 1) / 2, k]
  Stream stream;
};
void stem_fprop(const Stem& problem);

// The stem in training: y = conv(x, weight) and moments of the rounded y, on three channels as they are.
// True when there is a kernel for that on this machine; otherwise the caller pads the channels for
// conv_fprop.
bool stem_has_statistics(const ConvShape& shape, DType dtype, const void* x);
struct StemStatistics {
  ConvShape shape;
  DType dtype;
  const void* x;       // [n, h, w, c]
  const void* weight;  // [k, r, s, c]
  void* y;             // [n, p, q, k]
  float* partials;     // [stem_row_tiles, kMomentsPerTile, k]
  Stream stream;
};
RowTiles stem_row_tiles(const ConvShape& shape);
void stem_statistics(const StemStatistics& problem);

// y = relu?(affine(x) + residual_affine(residual)), elementwise over [n h w, channels].
struct BnApply {
  int64_t n, h, w, channels;
  DType dtype;
  const void* x;
  Normalise normalise;
  void* y;
  uint32_t*
      mask;  // null, or [pixels, ceil(channels / 32)]: bit = channel, set where ReLU lets the gradient pass
  Stream stream;
};
void bn_apply(const BnApply& problem);

// From moments [2, channels]: mean, var = M2 / count and what normalises with them; new running statistics if
// there are old ones.
struct BnFinalize {
  int64_t channels;
  double count;
  float eps;
  float momentum;
  const float* moments;
  const float* weight;        // or null: 1
  const float* bias;          // or null: 0
  const float* running_mean;  // both or neither
  const float* running_var;
  float* norm;  // [4, channels]: mean, scale = weight rstd, bias, rstd = 1 / sqrt(var + eps)
  float* new_running_mean;
  float* new_running_var;
  Stream stream;
};
void bn_finalize(const BnFinalize& problem);

// Per range of pixels, sum h and sum h (x - mean) with h = mask . g; and of a second BatchNorm that h reaches
// too.
struct BnBackwardReduce {
  int64_t pixels, channels;
  DType dtype;
  const void* g;
  const uint32_t* mask;  // or null
  const void* x;
  const float* mean;
  const void* other_x;  // both or neither
  const float* other_mean;
  void* h;                // null, or h is written
  float* partials;        // [bn_backward_ranges(pixels), kSumsPerTile, channels]
  float* other_partials;  // with other_x
  Stream stream;
};
void bn_backward_reduce(const BnBackwardReduce& problem);

// Ranges of pixels: enough to fill any machine, at least 64 pixels each. A function of the shape alone.
constexpr int64_t bn_backward_ranges(int64_t pixels) {
  const int64_t ranges = (pixels + 63) / 64;
  return ranges < 512 ? ranges : 512;
}

// What BatchNorm's gradient is made of: coefficients, and the gradients of its scale and shift.
struct BnBackwardFinalize {
  int64_t channels;
  double count;             // pixels that the statistics cover, over all ranks
  bool batch_statistics;    // false: mean and var were constants
  const float* norm;        // [4, channels], of bn_finalize
  const float* sums;        // [2, channels], over all ranks
  const float* local_sums;  // [2, channels], of this rank
  float* coefficients;      // [4, channels]: slope, offset, mean, tilt
  float* dscale;
  float* dshift;
  Stream stream;
};
void bn_backward_finalize(const BnBackwardFinalize& problem);

// BatchNorm's gradient, elementwise over [pixels, channels].
struct BnBackwardApply {
  int64_t pixels, channels;
  DType dtype;
  const void* g;
  BnGradient gradient;
  void* dx;
  Stream stream;
};
void bn_backward_apply(const BnBackwardApply& problem);

// y[n, p, q, c] = max over the window of x[n, h, w, c]; outside the image counts as -inf; NaN wins.
struct MaxPool {
  int64_t n, h, w, c;
  int64_t r, s;
  int64_t stride_h, stride_w;
  int64_t pad_h, pad_w;
  DType dtype;
  const void* x;
  void* y;
  uint8_t* indices;  // null, or [n, p, q, c]: r s_extent + s of the first maximum
  Stream stream;

  constexpr int64_t p() const { return (h + 2 * pad_h - r) / stride_h + 1; }
  constexpr int64_t q() const { return (w + 2 * pad_w - s) / stride_w + 1; }
};
void max_pool(const MaxPool& problem);
// dx from dy and the indices that `forward` left; its x and y are not read.
void max_pool_backward(const MaxPool& forward, const void* dy, void* dx);

// y[n, c] = mean over the pixels of x[n, pixels, c], summed in float32 in a fixed order.
struct GlobalAvgPool {
  int64_t n, pixels, c;
  DType dtype;
  const void* x;
  void* y;
  Stream stream;
};
void global_avg_pool(const GlobalAvgPool& problem);
// x: the gradient [n, c]; y: the gradient of the input [n, pixels, c].
void global_avg_pool_backward(const GlobalAvgPool& problem);

// What a device can do at most, by kernels that do that and nothing else: for measurements. On compute
// capability 9.0 alone.

// Bytes from L2 to shared memory by TMA: every block copies boxes of 128 pixels of x [n, h, w, 64] in
// bfloat16, as many as it is told to, around and around; 16 KB each.
enum class FeedBoxes : uint8_t {
  tiled,     // of the matrix [n h w, 64]
  im2col,    // what each tap of a 3x3 window with padding 1 sees, one after the other
  multicast  // of the matrix, the same ones for both blocks of a cluster, each of which loads one half
};
constexpr int64_t kFeedBoxBytes = 128 * 64 * 2;
struct FeedCeiling {
  FeedBoxes boxes;
  int64_t n, h, w;
  int64_t blocks, copies;  // copies of each block
  const void* x;
  void* checksums;  // [blocks, 32] words: of the last box of each, see kernels/sm90/ceilings/feed.cu
  Stream stream;
};
void feed_ceiling(const FeedCeiling& problem);

// Products from shared memory: every block makes repeats a b^T in float32, by adding a b^T so often.
constexpr int64_t kMatrixCeilingRows = 128, kMatrixCeilingColumns = 256;
constexpr int64_t kMatrixCeilingRowBytes = 128;  // of a and b
struct MatrixCeiling {
  DType dtype;  // bf16; f32 for TF32
  int64_t blocks, repeats;
  const void* a;    // [128, depth]
  const void* b;    // [256, depth]
  float* products;  // [blocks, 128, 256]
  Stream stream;
};
void matrix_ceiling(const MatrixCeiling& problem);

// One instruction of the machine on raw 32-bit words (kernels/conformance/): the tests compare the two
// machines by it. `in` and `out` hold as many words as the primitive takes and gives.
int64_t conformance_input_words(const char* primitive);
int64_t conformance_output_words(const char* primitive);
void conformance(const char* primitive, const void* in, void* out, Stream stream);

}  // namespace rk
