// How fast the simulator itself is, on one core.
#pragma once

namespace rk::sim {

struct Benchmark {
  double switch_ns;     // from a lane to its sibling and into the rendezvous, per lane and warp_sync
  double mma_gflops;    // a GEMM of 128x128x64 tiles by cp.async, ldmatrix and mma, four warps of 64x64
  double wgmma_gflops;  // the same of 128x256x64 tiles by tensor copies and wgmma, two warpgroups of 64 rows
  double fma_gflops;    // independent chains of ptx::fma on values from shared memory
  double copy_gbytes;   // 16-byte loads and stores, bytes read plus bytes written
};

// Runs each for a moment with one worker; processor time, not wall time.
Benchmark benchmark();

}  // namespace rk::sim
