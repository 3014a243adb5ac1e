// griddepcontrol (PTX ISA 9.7.13.13): overlap with the kernel before and after in the stream, for launches
// with LaunchConfig::pdl.
#pragma once

#include <ptx/target.h>

namespace ptx {

// Returns when the kernels before have ended and what they wrote is visible. Nothing that they may write is
// to be read, and nothing that they may read is to be written, before it.
RK_DEVICE void griddep_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// The next kernel may start as soon as all blocks have said so, or have ended.
RK_DEVICE void griddep_launch_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

}  // namespace ptx
