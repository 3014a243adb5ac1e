// In which order lanes and warps run and when asynchronous copies land. The fast build knows one schedule
// only.
#pragma once

#include <cstdint>

namespace rk::sim {

// When an asynchronous copy reads its source and writes its destination.
enum class Completion : uint8_t {
  eager,  // when it is issued
  late,   // at the wait that guarantees it
  random  // somewhere between, out of order
};

// How long a warp keeps the core.
enum class Pacing : uint8_t {
  lockstep,   // one instruction, then the next warp's
  run_ahead,  // until it blocks
  random      // a warp is drawn after each instruction
};

// Which lane of a warp, and which warp of a block, goes first.
enum class Order : uint8_t { forward, reverse, random };

enum class Kind : uint8_t {
  policy,  // pacing and order as they say
  pct  // probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): strict random priorities of the
       // warps, lowered at `changes` random instructions; finds a bug of depth d with probability >= 1 / (n
       // k^(d-1))
};

struct Schedule {
  Completion completion = Completion::eager;
  Pacing pacing = Pacing::run_ahead;
  Order order = Order::forward;
  Kind kind = Kind::policy;
  uint32_t changes = 3;
  uint64_t seed = 0;
};

// SplitMix64: small, seedable by anything, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(((next() >> 32) * bound) >> 32); }

 private:
  uint64_t state_;
};

// A seed for one block of one launch: independent of which worker runs the block.
inline uint64_t mix(uint64_t seed, uint64_t launch, uint64_t block) {
  Random random(seed ^ (launch * 0xd1342543de82ef95u));
  return random.next() ^ Random(block).next();
}

}  // namespace rk::sim
