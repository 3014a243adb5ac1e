"""What ptxas made of the kernels: no spills, the right architectures; and the readers of its output."""

import pytest

from . import machine_code
from .tree import ROOT, report

needs_build = pytest.mark.skipif(
    not machine_code.EXTENSION.is_file(),
    reason="_C is not built (RESNET_KERNELS_CUDA=0, or no `make build` yet)",
)

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 124 registers, used 1 barriers, 600 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_90a'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, 512 bytes smem, 600 bytes cmem[0]
"""
SASS = """
\t\tFunction : first
        /*0000*/                   LDC R1, c[0x0][0x28] ;              /* 0x00000a00ff017b82 */
        /*0010*/                   HMMA.16816.F32.BF16 R4, R8, R2, R4 ;  /* 0x00000a00ff017b82 */
        /*0020*/              @!P0 LDGSTS.E.BYPASS.128 [R5], [R2.64] ;
        /*0030*/             @UP0  FFMA R1, R2, R3, R4 ;
\t\tFunction : second
        /*0000*/                   STL [R1], R4 ;
"""


@needs_build
def test_no_kernel_spills():
    kernels = machine_code.read_logs()
    assert {kernel.architecture for kernel in kernels} == set(machine_code.ARCHITECTURES)
    findings = list(machine_code.spills(kernels))
    assert not findings, report(findings)


@needs_build
def test_every_kernel_file_has_a_log():
    logs = {kernel.log for kernel in machine_code.read_logs()}
    for source in (ROOT / "csrc/kernels").glob("**/*.cu"):
        log = machine_code.LOGS / source.relative_to(ROOT / "csrc").with_suffix(".o.ptxas")
        assert log.relative_to(ROOT).as_posix() in logs, f"{source.name}: no kernels in its log"


@needs_build
def test_architectures():
    tool = machine_code.cuobjdump()
    if tool is None:
        pytest.skip("no cuobjdump: neither CUDA's nor triton's")
    assert machine_code.targets(tool) == ({"sm_80", "sm_90a"}, {"sm_80"})


def test_log_is_read():
    first, second = machine_code.parse_log("log", LOG.format(stack=0, stores=0, loads=0))
    assert (first.name, first.architecture, first.registers, first.shared) == ("first", "sm_80", 124, 0)
    assert (second.name, second.architecture, second.registers, second.shared) == (
        "second",
        "sm_90a",
        40,
        512,
    )


@pytest.mark.parametrize("figures", [(8, 0, 0), (0, 4, 0), (0, 0, 4)])
def test_a_spill_is_found(figures):
    stack, stores, loads = figures
    kernels = list(machine_code.parse_log("log", LOG.format(stack=stack, stores=stores, loads=loads)))
    (finding,) = machine_code.spills(kernels)
    assert "first for sm_80" in finding.what


def test_a_cut_log_is_an_error():
    with pytest.raises(ValueError, match="no figures for second"):
        list(
            machine_code.parse_log(
                "log", LOG.format(stack=0, stores=0, loads=0)[: LOG.rindex("ptxas info") - 12]
            )
        )


def test_instructions_are_counted():
    counts = machine_code.parse_sass(SASS)
    assert counts["first"] == {"LDC": 1, "HMMA": 1, "LDGSTS": 1, "FFMA": 1}
    assert counts["second"] == {"STL": 1}
