"""What the compiler made of the kernels: no spills, budgets, architectures; and the readers of its output."""

import pytest

from . import budgets, machine_code
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


@pytest.fixture(scope="module")
def tool():
    found = machine_code.cuobjdump()
    if found is None:
        pytest.skip("no cuobjdump: neither CUDA's nor triton's")
    return found


@pytest.fixture(scope="module")
def table(tool):
    return machine_code.table(tool)


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
def test_architectures(tool):
    assert machine_code.targets(tool) == ({"sm_80", "sm_90a"}, {"sm_80"})


@needs_build
def test_kernels_stay_in_their_budgets(table):
    """budgets.csv holds every kernel as it was when somebody last looked."""
    release, kept = budgets.read()
    if budgets.release().rpartition(".")[0] != release.rpartition(".")[0]:
        pytest.skip(f"the table is of nvcc {release}, this build of {budgets.release()}")
    built = [budgets.of(row) for row in table if not row.file.startswith("conformance/")]
    findings = list(budgets.breaches(built, kept))
    remedy = "If this is meant, `make budgets` writes the table anew: commit it with the change."
    assert not findings, f"{report(findings)}\n{remedy}"


@needs_build
def test_promised_blocks_fit_an_h200(table):
    """The blocks of __launch_bounds__, which tile choices count on, fit its shared memory and registers."""
    for row in table:
        if row.architecture == "sm_90a":
            assert row.occupancy.blocks >= row.symbol.promised, (row.symbol, row.occupancy)


@needs_build
@pytest.mark.parametrize(
    ("kernel", "instruction"),
    [
        ("Wgmma", "HGMMA"),
        ("BoxLoad", "UTMALDG"),
        ("BoxStore", "UTMASTG"),
        ("RowStore", "UBLKCP"),
        ("Mbarrier", "SYNCS"),
        ("Stmatrix", "STSM"),
        ("Setmaxnreg", "USETMAXREG"),
        ("ClusterExchange", "UCGABAR"),
    ],
)
def test_instructions_of_sm_90_are_in_the_machine_code(tool, kernel, instruction):
    """Every kernel of that name in kernels/conformance/sm90 became the instruction it is about."""
    counts = {
        name: c for name, c in machine_code.sass(tool, "sm_90a").items() if f"{len(kernel)}{kernel}" in name
    }
    assert counts
    for name, count in counts.items():
        assert any(opcode.startswith(instruction) for opcode in count), name


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


def test_a_symbol_says_how_its_kernel_is_launched():
    mangled = "_ZN2rk7machine5entryINS_4sm8016BnFinalizeKernelELj128ELj2ELj4096EEEvNT_6ParamsE"
    assert machine_code.symbols([mangled]) == [("BnFinalizeKernel", 128, 2, 4096)]
    with pytest.raises(ValueError, match="not a kernel"):
        machine_code.symbols(["_Z5otherv"])


ROW = machine_code.Row(
    file="sm80/sample",
    architecture="sm_90a",
    symbol=machine_code.Symbol("Sample<1>", 128, 2, 96 * 1024),
    registers=160,
    spilled=0,
    instructions=(64, 0, 32, 100, 0, 0, 6),
)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"registers": 169}, "registers 169, in the table 160"),
        ({"spilled": 8}, "spilled_bytes 8"),
        ({"symbol": ROW.symbol._replace(threads=160)}, "threads 160"),
        ({"symbol": ROW.symbol._replace(shared=97 * 1024)}, "shared_bytes"),
        ({"symbol": ROW.symbol._replace(shared=114 * 1024)}, "blocks_per_sm 1, in the table 2"),
        ({"instructions": (80, 0, 32, 100, 0, 0, 6)}, "HMMA 80, in the table 64"),
        ({"instructions": (0, 0, 32, 100, 0, 0, 6)}, "HMMA 0"),
        ({"instructions": (64, 4, 32, 100, 0, 0, 6)}, "HGMMA 4"),
        ({"instructions": (64, 0, 32, 89, 0, 0, 6)}, "LDGSTS 89"),
        ({"architecture": "sm_80"}, "not in the table"),
    ],
)
def test_a_regression_is_found(change, what):
    kept = [budgets.of(ROW)]
    findings = [f.what for f in budgets.breaches([budgets.of(ROW._replace(**change))], kept)]
    assert any(what in finding for finding in findings), findings


def test_another_patch_release_passes():
    other = ROW._replace(registers=168, instructions=(64, 0, 40, 108, 0, 0, 0))
    assert not list(budgets.breaches([budgets.of(other)], [budgets.of(ROW)]))


def test_a_kernel_that_is_gone_is_found():
    (finding,) = budgets.breaches([], [budgets.of(ROW)])
    assert "no longer built" in finding.what


def test_the_table_survives_writing(tmp_path):
    path = tmp_path / "budgets.csv"
    budgets.write("13.0.88", [budgets.of(ROW)], path)
    assert budgets.read(path) == ("13.0.88", [budgets.of(ROW)])
