"""The tuned table and the forced configuration: what they override, where they are ignored, and the file."""

from __future__ import annotations

import json
import threading

import pytest
import torch
import torch.nn.functional as F

import resnet_kernels as rk
from resnet_kernels import tuning
from resnet_kernels.errors import UserError
from resnet_kernels.training.operators import run
from resnet_kernels.tuning import Entry, Task

from .tasks import HOPPER, PORTABLE, WGRAD, chosen, needs_simulator, task

pytestmark = needs_simulator

CHECKED = pytest.mark.skipif(
    not rk.simulator.built(checked=True), reason="the simulator's checked build is missing"
)
SMALL = {"n": 2, "c": 72, "size": 12, "k": 136}


@pytest.fixture(autouse=True)
def empty():
    """No table before and after."""
    tuning.clear()
    yield
    tuning.clear()


def launched(call) -> str:
    """The name of the kernel with the tile that a call launched first among convolutions."""
    with rk.simulator.checked(), rk.simulator.record() as launches:
        call()
    return next(launch["kernel"] for launch in launches if launch["kernel"].startswith("conv"))


def image(n, c, h, w):
    generator = torch.Generator().manual_seed(n + c + h)
    values = torch.randint(-2, 3, (n, c, h, w), generator=generator)
    return values.bfloat16().contiguous(memory_format=torch.channels_last)


PAIRS = [1, 1], [1, 1], [1, 1]
X, WEIGHT, DY = image(2, 72, 12, 12), image(136, 72, 3, 3), image(2, 136, 12, 12)


def fprop():
    return run("conv_fprop_stats", X, None, None, WEIGHT, *PAIRS, False, False)[:2]


def dgrad():
    nothing = (None,) * 5
    return run("conv_dgrad", DY, None, None, None, WEIGHT, *nothing, False, [12, 12], *PAIRS, False)[:1]


def wgrad():
    return (run("conv_wgrad", DY, X, None, [3, 3], *PAIRS, False),)


CALLS = {"fprop": fprop, "dgrad": dgrad, "wgrad": wgrad}


def oracle(operation):
    x, weight = (t.double().requires_grad_() for t in (X, WEIGHT))
    y = F.conv2d(x, weight, padding=1)
    if operation == "fprop":
        return y
    y.backward(DY.double())
    return x.grad if operation == "dgrad" else weight.grad


@CHECKED
@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("name", [*PORTABLE, *HOPPER, WGRAD])
def test_a_forced_configuration_runs_and_is_right(operation, name):
    wgrad = {"sm80/128x128", "sm80/64x64", WGRAD}
    if name not in (wgrad if operation == "wgrad" else {*PORTABLE, *HOPPER}):
        pytest.skip("not a configuration of this operation")
    kernels, _, tile = name.partition("/")
    with rk.backend("simulator"), tuning.forced(name):
        kernel = launched(CALLS[operation])
        assert name == WGRAD or tile in kernel.split()[-1]
        assert ("sm90" in kernel or "_tma" in kernel) == (kernels == "sm90")
        result = CALLS[operation]()
    assert torch.equal(result[0], oracle(operation).bfloat16())
    if operation == "fprop":
        y, (mean, deviations) = result[0].double(), result[1]
        assert torch.allclose(mean.double(), y.mean((0, 2, 3)), atol=1e-3)
        wanted = (y - y.mean((0, 2, 3), keepdim=True)).square().sum((0, 2, 3))
        assert torch.allclose(deviations.double(), wanted, rtol=1e-4)


@CHECKED
@pytest.mark.parametrize("operation", CALLS)
def test_a_tuned_entry_goes_before_the_model(operation):
    wanted = task(operation, **SMALL)
    with rk.backend("simulator"):
        before = launched(CALLS[operation])
        other = "sm80/128x128" if "64x64" in before else "sm80/64x64"
        tuning.add([Entry(wanted, other)])
        assert chosen(wanted, None) == other
        assert other.removeprefix("sm80/") in launched(CALLS[operation])
        with rk.simulator.multiprocessors(131):  # another machine
            assert launched(CALLS[operation]) == before
        tuning.clear()
        assert launched(CALLS[operation]) == before


def test_what_is_illegal_is_ignored():
    wide = task(c=60)
    plain = chosen(wide)
    tuning.add([Entry(wide, "sm90/128x256"), Entry(task("wgrad"), "sm80/128x64")])
    assert chosen(wide) == plain
    assert chosen(task("wgrad")) == WGRAD
    with tuning.forced("sm80/128x128"):
        assert chosen(wide) == plain == "sm80/64x64"
        assert chosen(task(dtype="float32")) != "sm80/128x128"


def test_the_demands_of_a_problem_come_before_its_entry():
    """The table's key has no tensors: an entry for sm_90 does not reach a problem that it cannot compute."""
    tuning.add([Entry(task(), "sm90/128x128")])
    assert chosen(task()) == "sm90/128x128"
    assert chosen(task(), 80) in PORTABLE
    assert chosen(task(), on_load="one") in PORTABLE
    assert chosen(task(), residual_view=True) in PORTABLE


@pytest.mark.parametrize(
    "other",
    [
        task(n=255),
        task(c=72),
        task(stride=2),
        task(padding=0),
        task(dtype="float16"),
        task("dgrad"),
        task(multiprocessors=131),
    ],
)
def test_an_entry_is_for_its_task_alone(other):
    plain = chosen(other)
    wrong = next(name for name in PORTABLE if name != plain)
    tuning.add([Entry(task(), wrong)])
    assert chosen(task()) == wrong
    assert chosen(other) == plain


def test_forcing_goes_before_the_table_and_nests():
    tuning.add([Entry(task(), "sm80/128x64")])
    with tuning.forced("sm80/128x128"):
        assert chosen(task()) == "sm80/128x128"
        with tuning.forced("sm90/256x128"):
            assert chosen(task()) == "sm90/256x128"
        assert chosen(task()) == "sm80/128x128"
    assert chosen(task()) == "sm80/128x64"
    with pytest.raises(KeyError), tuning.forced("sm80/64x64"):
        raise KeyError
    assert chosen(task()) == "sm80/128x64"


def test_unknown_names():
    with pytest.raises(UserError, match="no configuration 'sm70/64x64'; there are sm80/128x128, "):
        tuning.forced("sm70/64x64").__enter__()
    with pytest.raises(UserError, match="sm70/64x64"):
        tuning.add([Entry(task(), "sm80/64x64"), Entry(task(), "sm70/64x64")])
    assert tuning.entries() == []


def test_round_trip(tmp_path):
    written = [
        Entry(task(), "sm90/256x64", {"sm90/256x64": 1.25e-4, "sm80/128x64": 2e-4}),
        Entry(
            Task.of("dgrad", "tf32", (1, 8, 9, 7), (4, 8, 3, 2), (2, 1), (1, 0), (1, 2), 114), "sm80/64x64"
        ),
    ]
    tuning.add(written)
    tuning.save(tmp_path / "a.json", device="a GPU", command="resnet-kernels bench tune")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["device"] == "a GPU"
    assert content["command"] == "resnet-kernels bench tune"
    assert content["date"].endswith("Z")
    tuning.clear()
    assert chosen(task(), 80) != "sm80/64x64"
    assert tuning.load(tmp_path / "a.json") == written == tuning.entries()
    assert chosen(task()) == "sm90/256x64"
    assert chosen(written[1].task) == "sm80/64x64"


def test_what_is_loaded_later_goes_before(tmp_path):
    for name in ("sm80/128x64", "sm80/64x64"):
        tuning.save(tmp_path / "a.json", device="", command="", only=[Entry(task(), name)])
        tuning.load(tmp_path / "a.json")
        assert chosen(task()) == name
    assert len(tuning.entries()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a tuned table"),
        ("[]", "format"),
        ('{"format": "another"}', "format"),
        (json.dumps({"format": tuning.FORMAT}), "KeyError 'entries'"),
        (json.dumps({"format": tuning.FORMAT, "entries": [{}]}), "not a tuned table"),
        (json.dumps({"format": tuning.FORMAT, "entries": [3]}), "not a tuned table"),
        ({"configuration": "sm70/1x1"}, "no configuration 'sm70/1x1'"),
        ({"operation": "sgrad"}, "no 'sgrad'"),
        ({"x": [1, 2]}, "no convolution"),
        ({"multiprocessors": "all"}, "out of range"),
    ],
)
def test_bad_files(text, said, tmp_path):
    path = tmp_path / "bad.json"
    if isinstance(text, dict):
        tuning.save(path, device="", command="", only=[Entry(task(), "sm80/64x64")])
        content = json.loads(path.read_text())
        content["entries"][0] |= text
        text = json.dumps(content)
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        tuning.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert tuning.entries() == []


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        tuning.load(tmp_path / "missing.json")
    with pytest.raises(UserError, match="cannot write"):
        tuning.save(tmp_path / "missing/a.json", device="", command="")


def test_the_table_changes_while_convolutions_run():
    """Partials are allocated by the choice that the kernels then run with: results are right throughout."""
    names, stop = ("sm80/128x128", "sm80/64x64", "sm90/256x64"), threading.Event()

    def change():
        i = 0
        while not stop.is_set():
            tuning.add([Entry(task(op, **SMALL), names[i % 3]) for op in CALLS])
            i += 1

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with rk.backend("simulator"):
            for _ in range(10):
                for operation, call in CALLS.items():
                    assert torch.equal(call()[0], oracle(operation).bfloat16())
    finally:
        stop.set()
        changing.join()
