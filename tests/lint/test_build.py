"""setup.py: where nvcc is looked for, what a build without one says, and what its ninja file contains."""

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .tree import ROOT


@pytest.fixture
def build(monkeypatch):
    """setup.py as a module, with no CUDA compiler anywhere."""
    spec = importlib.util.spec_from_file_location("setup_under_test", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin-without-nvcc")
    dirs = module.package_dirs
    monkeypatch.setattr(module, "package_dirs", lambda name: [] if name == "nvidia" else dirs(name))
    monkeypatch.setattr(module, "CUDA", True)
    return module


def compiler(folder: Path) -> Path:
    """An executable bin/nvcc in the folder."""
    path = folder / "bin/nvcc"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_nvcc_is_looked_for_in_order(build, monkeypatch, tmp_path):
    assert build.find_nvcc() is None
    wheel = compiler(tmp_path / "site/nvidia/cu13")
    monkeypatch.setattr(build, "package_dirs", lambda name: [tmp_path / "site/nvidia"])
    assert build.find_nvcc() == wheel
    on_path = compiler(tmp_path / "cuda")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert build.find_nvcc() == on_path
    home = compiler(tmp_path / "home")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert build.find_nvcc() == home


def test_pypi_packages_are_wanted_only_without_nvcc(build, monkeypatch, tmp_path):
    assert build.missing_compiler() == build.NVCC_PACKAGES
    monkeypatch.setattr(build, "CUDA", False)
    assert build.missing_compiler() == []
    monkeypatch.setattr(build, "CUDA", True)
    monkeypatch.setenv("PATH", str(compiler(tmp_path).parent))
    assert build.missing_compiler() == []


def test_pypi_runtime_is_of_the_compilers_release(build, monkeypatch, tmp_path):
    nvcc = compiler(tmp_path / "one/nvidia/cu13")
    (tmp_path / "one/nvidia_cuda_runtime-13.5.0.dist-info").mkdir()
    (tmp_path / "two/nvidia_cuda_runtime-13.0.96.dist-info").mkdir(parents=True)
    places = [tmp_path / "one/nvidia", tmp_path / "two/nvidia"]
    monkeypatch.setattr(build, "package_dirs", lambda name: places)
    include, library = build.wheel_runtime(nvcc)
    assert include == f" -I{tmp_path}/two/nvidia/cu13/include"
    assert library == f" -L{tmp_path}/two/nvidia/cu13/lib"
    assert build.wheel_runtime(Path("/usr/local/cuda/bin/nvcc")) == ("", "")


def test_no_compiler_is_an_error_that_says_what_to_do(build, tmp_path):
    plan = build.Plan(io.StringIO(), tmp_path)
    with pytest.raises(SystemExit, match=r"pip install nvidia-cuda-nvcc(.|\n)*RESNET_KERNELS_CUDA=0"):
        plan.cuda(tmp_path / "_C.abi3.so")


def test_every_kernel_is_compiled_for_every_machine(build, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(compiler(tmp_path).parent))
    text = io.StringIO()
    plan = build.Plan(text, tmp_path)
    plan.simulator("_sim", tmp_path / "_sim.so")
    plan.cuda(tmp_path / "_C.so")
    plain = re.sub(r"\s*\$\n\s*", " ", text.getvalue())
    kernels = [path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc/kernels").glob("**/*.cu")]
    assert kernels
    for kernel in kernels:
        assert re.search(rf"\.o: cxx {kernel}\b", plain)
        assert re.search(rf"\.o: nvcc {kernel}\b", plain)
    assert "-fmad=false" in plain
    assert "! grep 'Potential Performance Loss'" in plain  # serialised wgmma
    assert "-ffp-contract=off" in plain


def test_building_without_cuda_is_said_aloud(tmp_path):
    """`RESNET_KERNELS_CUDA=0` announces itself before anything is compiled (there is no compiler here)."""
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        f"--build-temp={tmp_path}/a",
        f"--build-lib={tmp_path}/b",
    ]
    environment = {**os.environ, "RESNET_KERNELS_CUDA": "0", "CXX": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "the simulators ONLY, no GPU kernels" in done.stdout
    assert done.returncode != 0
    assert "the build failed" in done.stderr


def test_sanitizers_reach_every_compilation_and_link_of_the_simulators(build, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_KERNELS_SANITIZE", "address,undefined")
    spec = importlib.util.spec_from_file_location("setup_sanitized", ROOT / "setup.py")
    sanitized = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sanitized)
    for module, wanted in ((build, False), (sanitized, True)):
        text = io.StringIO()
        module.Plan(text, tmp_path).simulator("_sim", tmp_path / "_sim.so")
        plain = re.sub(r"\s*\$\n\s*", " ", text.getvalue())
        compiled = [line for line in plain.splitlines() if line.strip().startswith("flags =")]
        links = [line for line in plain.splitlines() if "-shared" in line]
        assert compiled and links
        for line in compiled + links:
            assert ("-fsanitize=address,undefined" in line) == wanted, line
