// feed_ceiling, matrix_ceiling: what their kernels cannot do is refused here.
#include <stdexcept>
#include <string>

#include "api.h"
#include "dispatch/problem.h"
#include "kernels/sm90/launchers.h"
#include "machine/device.h"

namespace rk {
namespace {

void require(bool met, const char* what) {
  if (!met) throw std::runtime_error(what);
}

void require_sm90(const char* op) {
  const int capability = machine::compute_capability();
  if (capability == 90) return;
  throw std::runtime_error(std::string(op) + ": TMA and wgmma are of compute capability 9.0; this GPU has " +
                           std::to_string(capability / 10) + "." + std::to_string(capability % 10));
}

}  // namespace

void feed_ceiling(const FeedCeiling& problem) {
  require_sm90("feed_ceiling");
  const bool multicast = problem.boxes == FeedBoxes::multicast;
  const int64_t taps = problem.boxes == FeedBoxes::im2col ? 3 : 1, pixels = problem.n * problem.h * problem.w;
  require(pixels % sm90::kFeedPixels == 0, "feed_ceiling: x must be whole boxes of 128 pixels");
  require(!multicast || problem.blocks % 2 == 0, "feed_ceiling: multicast takes an even number of blocks");
  require(problem.blocks / (multicast ? 2 : 1) <= pixels / sm90::kFeedPixels,
          "feed_ceiling: x has fewer boxes than there are blocks to load them");
  require(dispatch::aligned({problem.x}), "feed_ceiling: x must be aligned to 16 bytes");
  const ConvShape shape = {.n = problem.n,
                           .h = problem.h,
                           .w = problem.w,
                           .c = 64,
                           .k = 64,
                           .r = taps,
                           .s = taps,
                           .stride_h = 1,
                           .stride_w = 1,
                           .pad_h = taps / 2,
                           .pad_w = taps / 2,
                           .dilation_h = 1,
                           .dilation_w = 1};
  sm90::launch_feed({.conv = dispatch::fprop_geometry(shape),
                     .multicast = multicast,
                     .blocks = static_cast<uint32_t>(dispatch::index32(problem.blocks, "blocks")),
                     .copies = static_cast<uint32_t>(dispatch::index32(problem.copies, "copies")),
                     .x = problem.x,
                     .checksums = static_cast<uint32_t*>(problem.checksums),
                     .stream = problem.stream});
}

void matrix_ceiling(const MatrixCeiling& problem) {
  require_sm90("matrix_ceiling");
  dispatch::index32(problem.blocks, "blocks");
  dispatch::index32(problem.repeats, "repeats");
  require(dispatch::aligned({problem.a, problem.b}), "matrix_ceiling: a and b must be aligned to 16 bytes");
  sm90::launch_matrix_rate(problem);
}

}  // namespace rk
