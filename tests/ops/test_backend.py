"""Choosing the machine: setter and context manager, threads, wrong devices, machines that are not built."""

import subprocess
import sys
import threading

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import resnet_kernels as rk
from resnet_kernels import _native
from resnet_kernels import backend as backend_function

backends = sys.modules["resnet_kernels.backend"]


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test sets, the next finds "auto"."""
    yield
    rk.backend("auto")


def conv(device="cpu", dtype=torch.float32):
    return torch.randn(1, 4, 5, 5, dtype=dtype, device=device), torch.randn(
        4, 4, 3, 3, dtype=dtype, device=device
    )


def test_default_is_auto():
    assert rk.backend.current() == "auto" and backend_function is rk.backend
    assert rk.backend.choices() == ("auto", "cuda", "simulator", "aten")


def test_setter_and_context_manager():
    rk.backend("aten")
    assert rk.backend.current() == "aten"
    with rk.backend("simulator") as chosen:
        assert rk.backend.current() == chosen.name == "simulator"
        with rk.backend("auto"):
            assert rk.backend.current() == "auto"
        assert rk.backend.current() == "simulator"
    assert rk.backend.current() == "aten"


def test_context_manager_restores_after_an_error():
    with pytest.raises(KeyError), rk.backend("aten"):
        raise KeyError
    assert rk.backend.current() == "auto"


@pytest.mark.parametrize("wrong", ("", "Aten", "gpu", "cpu", "sim", "auto "))
def test_unknown_name(wrong):
    with pytest.raises(ValueError, match=f"'auto', 'cuda', 'simulator', 'aten', got {wrong!r}"):
        rk.backend(wrong)
    assert rk.backend.current() == "auto"


@pytest.mark.parametrize("wrong", (None, 1, True, ["aten"], torch.device("cpu")))
def test_not_a_name(wrong):
    with pytest.raises(TypeError, match="backend: name must be one of"):
        rk.backend(wrong)


CALLS = {
    "conv_bn_act": lambda x, w: rk.ops.conv_bn_act(x, w),
    "conv_bn_relu_maxpool": lambda x, w: rk.ops.conv_bn_relu_maxpool(x, w),
    "bn_act": lambda x, w: rk.ops.bn_act(x),
    "max_pool": lambda x, w: rk.ops.max_pool(x, 2),
    "global_avg_pool": lambda x, w: rk.ops.global_avg_pool(x),
    "linear": lambda x, w: rk.ops.linear(x[:, :, 0, 0], w[:, :, 0, 0]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_cuda_backend_refuses_cpu_tensors(call):
    with (
        rk.backend("cuda"),
        pytest.raises(ValueError, match=r"x is on the CPU, but the backend is 'cuda'.*GPU"),
    ):
        call(*conv())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_auto_is_aten_on_a_cpu(call):
    x, weight = conv()
    y = call(x, weight)
    with rk.backend("aten"):
        assert torch.equal(y, call(x, weight))


def test_simulator_computes_by_itself(simulator):
    """Another order of summation than PyTorch's: close, and not the same bits."""
    x, weight = torch.randn(1, 64, 9, 9), torch.randn(64, 64, 3, 3) / 24
    y = rk.ops.conv_bn_act(x, weight)
    with rk.backend("aten"):
        expected = rk.ops.conv_bn_act(x, weight)
    torch.testing.assert_close(y, expected, rtol=0.01, atol=0.01)
    assert not torch.equal(y, expected)


def test_threads_share_the_machine(machine):
    """Two threads compute at once, on tensors of their own, and get what one alone gets."""
    problems = [conv() for _ in range(2)]
    expected = [rk.ops.conv_bn_act(*p, padding=1) for p in problems]
    failures = []

    def work(i):
        for _ in range(10):
            if not torch.equal(rk.ops.conv_bn_act(*problems[i], padding=1), expected[i]):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_choice_reaches_other_threads():
    seen = []
    with rk.backend("aten"):
        thread = threading.Thread(target=lambda: seen.append(rk.backend.current()))
        thread.start()
        thread.join()
    assert seen == ["aten"]


@pytest.fixture
def gpu(monkeypatch):
    """A pretended GPU: fake CUDA tensors (shapes and devices without memory), and loaded kernels."""
    monkeypatch.setattr(backends, "_capability", {0: (9, 0)})
    monkeypatch.setattr(_native, "_cuda_error", None)
    with FakeTensorMode():
        yield


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", ("auto", "cuda", "aten"))
def test_gpu_tensors(call, name, gpu):
    with rk.backend(name):
        assert call(*conv("cuda")).device == torch.device("cuda", 0)


class OneConvolution(torch.nn.Module):
    def __init__(self, device):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(4, 4, 3, 3, device=device))

    def forward(self, x):
        return rk.ops.conv_bn_act(x, self.weight)


@pytest.mark.parametrize("strict", (False, True))
def test_gpu_export_keeps_the_operator(strict, monkeypatch):
    """The device and backend questions of a GPU's path are constants to dynamo, as the CPU's are."""
    monkeypatch.setattr(backends, "_capability", {0: (9, 0)})
    monkeypatch.setattr(_native, "_cuda_error", None)
    with FakeTensorMode(shape_env=ShapeEnv()):
        net, x = OneConvolution("cuda"), torch.empty(2, 4, 5, 5, device="cuda")
        batch = ({0: torch.export.Dim("n")},)
        program = torch.export.export(net, (x,), dynamic_shapes=batch, strict=strict)
    assert "resnet_kernels.conv_fprop.default" in [str(node.target) for node in program.graph.nodes]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_simulator_refuses_gpu_tensors(call, gpu):
    with (
        rk.backend("simulator"),
        pytest.raises(ValueError, match=r"x is on cuda:0, but the backend is 'simulator'"),
    ):
        call(*conv("cuda"))


def test_mixed_devices(gpu):
    x, weight = conv("cuda")
    with pytest.raises(ValueError, match=r"weight must be on x's device cuda:0, got .* on cpu"):
        rk.ops.conv_bn_act(x, weight.cpu())
    with pytest.raises(ValueError, match=r"scale must be on x's device cuda:0"):
        rk.ops.conv_bn_act(x, weight, torch.randn(4))


def test_gpu_float64_names_its_backend(gpu):
    with pytest.raises(TypeError, match=r"x is float64.*rk\.backend\('aten'\)"):
        rk.ops.conv_bn_act(*conv("cuda", torch.float64))
    with rk.backend("aten"):
        assert rk.ops.conv_bn_act(*conv("cuda", torch.float64)).dtype == torch.float64


def test_gpu_huge_problem(gpu):
    x, weight = torch.empty(2**15, 1, 257, 257, device="cuda"), torch.empty(1, 1, 1, 1, device="cuda")
    with pytest.raises(ValueError, match=r"pixels \(N H W\)"):
        rk.ops.conv_bn_act(x, weight)
    with rk.backend("aten"):
        assert rk.ops.conv_bn_act(x, weight).shape == x.shape


def test_old_gpu(gpu, monkeypatch):
    monkeypatch.setattr(backends, "_capability", {0: (7, 5)})
    x, weight = conv("cuda")
    assert rk.ops.conv_bn_act(x, weight).shape == (1, 4, 3, 3)  # "auto": PyTorch's composition
    with rk.backend("cuda"), pytest.raises(ValueError, match=r"cuda:0 has compute capability 7\.5.*8\.0"):
        rk.ops.conv_bn_act(x, weight)


def test_gpu_without_kernels_names_the_build_step(gpu, monkeypatch):
    monkeypatch.setattr(_native, "_cuda_error", ImportError("_C is not built: build it with `make build`"))
    for name in ("auto", "cuda"):
        with rk.backend(name), pytest.raises(ImportError, match="make build"):
            rk.ops.conv_bn_act(*conv("cuda"))
    with rk.backend("aten"):
        rk.ops.conv_bn_act(*conv("cuda"))


@pytest.mark.parametrize("checked", (False, True))
def test_missing_simulator_names_the_build_step(checked, monkeypatch):
    from resnet_kernels import simulator

    monkeypatch.setattr(simulator, "checked_enabled", checked)
    monkeypatch.setattr(_native, "simulator", _native.simulator.__wrapped__)
    monkeypatch.setattr(_native.importlib.util, "find_spec", lambda name: None)
    wanted = r"resnet_kernels\._sim_checked" if checked else r"resnet_kernels\._sim "
    with rk.backend("simulator"), pytest.raises(ImportError, match=f"{wanted}.*make build"):
        rk.ops.conv_bn_act(*conv())


def test_broken_object_says_so(monkeypatch):
    monkeypatch.setattr(_native.importlib.util, "find_spec", lambda name: object())

    def fail(name):
        raise ImportError("undefined symbol: aoti_torch_example")

    monkeypatch.setattr(_native.importlib, "import_module", fail)
    with pytest.raises(
        ImportError, match=r"_sim .*does not load: undefined symbol: aoti_torch_example; .*make build"
    ):
        _native.simulator.__wrapped__()


ALONE = """
import importlib.machinery, sys
# As if nothing were compiled: no extension module is found inside the package.
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("resnet_kernels._C", "resnet_kernels._sim", "resnet_kernels._sim_checked"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden)
import torch, resnet_kernels as rk
assert "torch._dynamo" not in sys.modules, "the import pulls in dynamo"
assert "resnet_kernels.nn" not in sys.modules
x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3)
assert rk.ops.conv_bn_act(x, weight).shape == (1, 4, 3, 3)
print("alone", rk.__version__)
"""


def test_import_needs_nothing_built():
    root = str(_native.importlib.util.find_spec("resnet_kernels").submodule_search_locations[0]) + "/.."
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"alone {rk.__version__}"


def test_public_names():
    for name in rk.__all__:
        assert getattr(rk, name) is not None, name
    assert set(rk.__all__) <= set(dir(rk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rk.nothing  # noqa: B018
