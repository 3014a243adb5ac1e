// How device code is spelled for this machine.
#pragma once

#define RK_DEVICE __device__ __forceinline__
#define RK_UNROLL _Pragma("unroll")
#define RK_NO_UNROLL _Pragma("unroll 1")
