"""The compiled modules load wherever they should: their ELF tables, and a CPU-only PyTorch."""

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import shared_object
from .shared_object import SharedObject
from .tree import report

RULES = {rule.__name__: rule for rule in shared_object.RULES}


def module_path(name: str) -> Path:
    spec = importlib.util.find_spec(f"resnet_kernels.{name}")
    if spec is None or spec.origin is None:
        pytest.skip(f"resnet_kernels.{name} is not built: run `make build`")
    return Path(spec.origin)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["_C", "_sim", "_sim_checked"])
def test_tables(name, rule):
    findings = list(RULES[rule](shared_object.read(module_path(name))))
    assert not findings, report(findings)


@pytest.mark.parametrize(
    ("rule", "breach"),
    [
        ("unstable_symbols", {"undefined": ["_ZN2at6detail10empty_cudaEv"]}),
        ("unstable_symbols", {"undefined": ["_ZN3c105ErrorC1Ev"]}),
        ("unstable_symbols", {"undefined": ["cudaLaunchKernel"]}),
        ("unwanted_libraries", {"needed": ["libtorch_cpu.so", "libtorch_cuda.so"]}),
        ("unwanted_libraries", {"needed": ["libtorch_cpu.so", "libcudart.so.13"]}),
        ("unwanted_libraries", {"needed": ["libtorch_cpu.so", "libc10_cuda.so"]}),
        ("unwanted_libraries", {"needed": ["libtorch_cpu.so", "libcuda.so.1"]}),
        ("unwanted_libraries", {"needed": ["libc.so.6"]}),
        ("exported_names", {"exported": ["cudaMalloc"]}),
        ("exported_names", {"exported": ["_ZN2rk10conv_fpropERKNS_9ConvFpropE"]}),
    ],
)
def test_a_breach_is_found(rule, breach):
    clean = SharedObject(
        "sample.so",
        needed=["libtorch_cpu.so", "libstdc++.so.6", "libc.so.6"],
        exported=["PyInit__C"],
        undefined=[
            "aoti_torch_get_dim",
            "torch_call_dispatcher",
            "PyModule_Create2",
            "_ITM_registerTMCloneTable",
        ],
    )
    assert not list(RULES[rule](clean))
    assert list(RULES[rule](clean._replace(**breach)))


def test_tables_are_read():
    """torch's own libraries have what ours must not: the reader sees it."""
    cpu = shared_object.read(Path(torch.__file__).parent / "lib/libtorch_cpu.so")
    assert "libc10.so" in cpu.needed
    assert any(name.startswith("_ZN3c10") for name in cpu.undefined)
    assert "aoti_torch_get_dim" in cpu.exported
    assert not any(name in ("malloc", "memcpy") for name in cpu.undefined)


def test_stream_shim():
    """What binding/tensors.h looks up for the caller's stream is in the library that it looks in."""
    if torch.version.cuda is None:
        pytest.skip("this PyTorch is a CPU build")
    library = ctypes.CDLL("libtorch_cuda.so", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    assert library.aoti_torch_get_current_cuda_stream


def test_c_imports_without_a_gpu():
    """_C loads, with no CUDA library at hand and no GPU visible."""
    module_path("_C")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-c", "import torch, resnet_kernels._C"], env=environment, check=True, timeout=300
    )


@pytest.mark.slow
def test_c_imports_under_cpu_only_torch(tmp_path):
    """_C, built against a CUDA build of torch, loads under a CPU-only one, if pip has a local file of one."""
    source = module_path("_C").parents[1]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(tmp_path), "torch>=2.10"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"pip finds no local file of torch: {done.stderr.strip().splitlines()[-1]}")
    code = (
        "import torch, resnet_kernels as rk\n"
        "import resnet_kernels._C\n"
        "print(torch.__version__, torch.version.cuda)\n"
        "x = torch.randn(1, 8, 4, 4).to(memory_format=torch.channels_last)\n"
        "w = torch.randn(8, 8, 1, 1).to(memory_format=torch.channels_last)\n"
        "torch.testing.assert_close(rk.ops.conv_bn_act(x, w), torch.relu(torch.conv2d(x, w)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(source)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, cuda = done.stdout.split()
    if cuda != "None":
        pytest.skip(f"the local torch {version} is a CUDA build")
