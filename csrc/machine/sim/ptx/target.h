// How device code is spelled for this machine.
#pragma once

#define RK_DEVICE inline
#define RK_UNROLL
#define RK_NO_UNROLL
