"""csrc/ keeps its rules, and every rule fires on a sample that breaks it."""

import pytest

from . import cpp_rules
from .tree import files, report

SOURCES = list(files(".h", ".cpp", ".cu", under="csrc"))

KERNEL = "csrc/kernels/sm80/sample.cu"
TILE = "csrc/tile/sample.h"
PTX = "csrc/machine/cuda/ptx/sample.h"

# rule, path, text that breaks it
BAD = [
    ("include_direction", "csrc/api.h", "#include <torch/torch.h>"),
    ("include_direction", "csrc/api.h", '#include "dispatch/problem.h"'),
    ("include_direction", "csrc/binding/ops.cpp", '#include "kernels/sm80/launchers.h"'),
    ("include_direction", "csrc/binding/ops.cpp", "#include <cuda_runtime.h>"),
    ("include_direction", "csrc/dispatch/a.cpp", "#include <c10/core/Device.h>"),
    ("include_direction", "csrc/dispatch/a.cpp", "#include <ptx/mma.h>"),
    ("include_direction", KERNEL, '#include "dispatch/problem.h"'),
    ("include_direction", KERNEL, '#include "../sm90/other.h"'),
    ("include_direction", KERNEL, '#include "ptx/mma.h"'),
    ("include_direction", KERNEL, '#include "machine/cuda/launch.h"'),
    ("include_direction", KERNEL, "#include <cuda_bf16.h>"),
    ("include_direction", KERNEL, "#include <cuda/std/array>"),
    ("include_direction", KERNEL, "#include <boost/any.hpp>"),
    ("include_direction", TILE, '#include "kernels/sm80/launchers.h"'),
    ("include_direction", "csrc/machine/device.h", '#include "tile/swizzle.h"'),
    ("include_direction", "csrc/machine/sim/engine/a.h", "#include <cuda_fp16.h>"),
    ("include_direction", "csrc/machine/cuda/device.cpp", '#include "machine/sim/engine/core.h"'),
    ("include_direction", "csrc/elsewhere/a.h", "#include <cstdint>"),
    ("assembly_place", KERNEL, 'asm volatile("bar.sync 0;" ::: "memory");'),
    ("assembly_place", TILE, '__asm__("");'),
    ("assembly_place", "csrc/machine/sim/ptx/barrier.cpp", 'asm("nop");'),
    ("assembly_clobber", PTX, 'asm volatile("bar.sync 0;");'),
    ("assembly_clobber", PTX, 'asm("bar.sync 0;" ::: "memory");'),
    ("assembly_clobber", PTX, 'asm volatile("cp.async.wait_group %0;" ::"n"(kPending));'),
    ("assembly_clobber", PTX, 'asm volatile("cp.async.commit_group;" ::);'),
    ("assembly_clobber", PTX, 'asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(g));'),
    ("assembly_clobber", PTX, 'asm volatile("st.shared.b32 [%0], %1;" ::"r"(a), "r"(w));'),
    ("assembly_clobber", PTX, 'asm volatile("ld.shared.b32 %0, [%1];" : "=r"(w) : "r"(a));'),
    ("assembly_clobber", PTX, 'asm volatile("ld.global.b32 %0, [%1];" : "=r"(w) : "l"(a));'),
    ("assembly_clobber", PTX, 'asm volatile("fence.proxy.async;" ::);'),
    ("assembly_clobber", PTX, 'asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(a));'),
    ("assembly_clobber", PTX, 'asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(0));'),
    ("assembly_clobber", PTX, 'asm volatile("griddepcontrol.wait;");'),
    (
        "assembly_clobber",
        PTX,
        'asm volatile("{ .reg .pred p; " "st.global.b32 [%0], %1; }" ::"l"(a), "r"(w));',
    ),
    ("kernel_vocabulary", KERNEL, "__shared__ float tile[32];"),
    ("kernel_vocabulary", KERNEL, "extern float tile[];"),
    ("kernel_vocabulary", KERNEL, "kernel<<<grid, block>>>(x);"),
    ("kernel_vocabulary", KERNEL, "__global__ void kernel(float* x);"),
    ("kernel_vocabulary", KERNEL, "__device__ float f();"),
    ("kernel_vocabulary", TILE, "int i = threadIdx.x;"),
    ("kernel_vocabulary", TILE, "__syncthreads();"),
    ("kernel_vocabulary", TILE, "__ldg(x);"),
    ("kernel_vocabulary", KERNEL, "cudaMemsetAsync(y, 0, n);"),
    ("kernel_vocabulary", KERNEL, "#ifdef __CUDA_ARCH__\n#endif"),
    ("kernel_vocabulary", KERNEL, "atomicAdd(sum, 1.0f);"),
    ("kernel_vocabulary", KERNEL, "float v = *reinterpret_cast<const float*>(p.x + 4);"),
    ("kernel_vocabulary", KERNEL, "float v = reinterpret_cast<const float*>(p.x)[4];"),
    ("kernel_vocabulary", KERNEL, "float v = *(float*)(p.x);"),
    ("raw_dereference", KERNEL, "struct Params { const float* x; };\nfloat v = p.x[3];"),
    ("raw_dereference", KERNEL, "struct Params { int n; const Element* __restrict__ x; };\nauto v = *p.x;"),
    ("raw_dereference", KERNEL, "void f(const float* x, float* y) { *y = 1; }"),
    ("raw_dereference", KERNEL, "void f(const float* x, float* y) { if (n) {\n}\n *y = 1; }"),
    ("raw_dereference", KERNEL, "void f(const Words4* x) { auto v = x->word; }"),
    ("raw_dereference", TILE, "{\n  const Element* row = p.x + 3;\n  float v = *(row + 2); }"),
    (
        "raw_dereference",
        TILE,
        "struct P { std::vector<float>* v; Pair<A, B>* x; };\nint f() { return *p.x; }",
    ),
    ("raw_dereference", KERNEL, "struct P { const E* x; };\nfloat x[4];\nx[0] = p.x[0];"),
    ("one_launch", KERNEL, "kernel<<<1, 32>>>(x);"),
    ("one_launch", "csrc/dispatch/a.cpp", "cudaLaunchKernel(f, 1, 32, args, 0, s);"),
    ("one_launch", "csrc/machine/cuda/device.cpp", "cuLaunchKernelEx(&config, f, args, nullptr);"),
    (
        "one_launch",
        "csrc/machine/cuda/launch.h",
        "cudaLaunchKernelEx(&c, f, p);\ncudaLaunchCooperativeKernel(f);",
    ),
    ("float_atomics", PTX, 'asm volatile("red.global.add.f32 [%0], %1;" ::"l"(a), "f"(v) : "memory");'),
    ("float_atomics", PTX, "atomicAdd(sum, v);"),
    ("float_atomics", PTX, 'asm volatile("cp.reduce.async.bulk.global.shared::cta.add.f32" ::: "memory");'),
    ("header_guard", TILE, "#ifndef A\n#define A\n#endif"),
]

# What looks alike and is right.
GOOD = [
    ("include_direction", KERNEL, '#include <ptx/mma.h>\n#include <launch.h>\n#include "tile/swizzle.h"'),
    ("include_direction", KERNEL, "#include <array>\n#include <cstdint>"),
    ("include_direction", "csrc/binding/ops.cpp", '#include <torch/csrc/stable/ops.h>\n#include "api.h"'),
    ("assembly_place", KERNEL, "// asm is for the machine\nint asmuch = 1;"),
    ("assembly_place", PTX, 'asm("");'),
    ("assembly_clobber", PTX, 'asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(a));'),
    ("assembly_clobber", PTX, 'asm("ld.global.nc.v4.b32 {%0, %1}, [%2];" : "=r"(a), "=r"(b) : "l"(c));'),
    ("assembly_clobber", PTX, 'asm volatile("st.shared.b32 [%0], %1;" ::"r"(a), "r"(f(w)) : "memory");'),
    ("kernel_vocabulary", KERNEL, "// no __shared__ and no <<< here\n#pragma once\nint external = 0;"),
    ("raw_dereference", KERNEL, "struct P { const E* x; };\nload(p.x + 3, n * p.x_); f(p.x); g({.x = p.x});"),
    ("raw_dereference", KERNEL, "const float* pair = &acc[1][2];\nfloat v = pair[0];"),
    ("raw_dereference", KERNEL, "struct P { const E* source; };\nint n = int64_t{image} * conv.source;"),
    ("raw_dereference", KERNEL, "struct P { const E* x; };\nfloat a[4], x[4];\nx[0] = ld_global(p.x);"),
    ("one_launch", "csrc/machine/cuda/launch.h", "check(cudaLaunchKernelEx(&c, f, p));"),
]  # fmt: skip

RULES = {rule.__name__: rule for rule in cpp_rules.RULES}


def test_there_are_sources():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("rule", RULES)
def test_sources(rule):
    findings = [finding for path, text in SOURCES for finding in RULES[rule](path, text)]
    assert not findings, report(findings)


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_a_breach_is_found(rule, path, text):
    assert list(RULES[rule](path, text))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_no_false_alarm(rule, path, text):
    assert not list(RULES[rule](path, text))


def test_every_rule_has_a_sample():
    assert {rule for rule, _, _ in BAD} == set(RULES)


def test_lines_are_counted():
    (finding,) = cpp_rules.one_launch(KERNEL, "/* two\nlines */\nkernel<<<1, 1>>>();")
    assert finding.line == 3
