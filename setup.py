"""Builds the compiled machines of resnet_kernels through one ninja file.

    resnet_kernels/_C.abi3.so          nvcc, csrc/machine/cuda: the GPU's kernels (sm_80, sm_90a, PTX)
    resnet_kernels/_sim.*.so           C++ compiler, csrc/machine/sim: the simulator
    resnet_kernels/_sim_checked.*.so   the same with checks, counters and mutants

`make build` (`python setup.py build_ext --inplace`) builds into the source tree, `pip install .` a wheel.
RESNET_KERNELS_CUDA=0 leaves _C out.  nvcc is looked for in CUDA_HOME, on PATH and in the PyPI packages
NVCC_PACKAGES, which become build requirements only where the first two have none.  Without an nvcc the build
fails: it is never quietly CPU-only.  RESNET_KERNELS_SANITIZE=address,undefined compiles the simulators with
these sanitizers (`make sanitize`).
"""

import fcntl
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CUDA = os.environ.get("RESNET_KERNELS_CUDA", "1") != "0"
SANITIZE = os.environ.get("RESNET_KERNELS_SANITIZE", "")
NVCC_PACKAGES = [
    f"nvidia-{p}==13.0.*" for p in ("cuda-nvcc", "cuda-runtime", "cuda-cccl", "cuda-crt", "nvvm")
]

HOST_FLAGS = (
    "-std=c++20 -fPIC -fvisibility=hidden -DTORCH_TARGET_VERSION=0x020a000000000000 "
    "-Wall -Wextra -Wno-unknown-pragmas -Wno-unused-parameter -Werror"
)
# -ffp-contract=off, -fmad=false: a multiply and an add fuse only where the source says fma, on both machines.
SIM_FLAGS = "-O2 -ffp-contract=off -fno-gnu-unique"
if platform.machine() == "x86_64":
    SIM_FLAGS += " -march=x86-64-v3"
# A finding ends the process: an undefined result is as fatal as a bad address.
SANITIZERS = (
    f" -g -fsanitize={SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer" if SANITIZE else ""
)
# --compress-mode=size: machine code of a sixth, which the driver unpacks when a kernel is first used.
NVCC_FLAGS = (
    "-O3 -std=c++20 -fmad=false --expt-relaxed-constexpr -lineinfo -Xptxas -v --threads 2 "
    "--compress-mode=size -Werror all-warnings "
    "-Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wno-unknown-pragmas,-Werror"
)
SM90A = "-gencode arch=compute_90a,code=sm_90a"
SM80_AND_SM90A = f"-gencode arch=compute_80,code=[sm_80,compute_80] {SM90A}"


def package_dirs(name: str) -> list[Path]:
    """Where an installed package lies, found without importing it; a namespace may lie in several places."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec else []


def required_dir(name: str) -> Path:
    """The first of `package_dirs`, or the end of the build with a message."""
    found = package_dirs(name)
    if not found:
        raise SystemExit(f"resnet_kernels: the build needs the package {name}; {sys.executable} has none")
    return found[0]


def python_include() -> str:
    """The directory of Python.h."""
    path = sysconfig.get_path("include")
    if not Path(path, "Python.h").is_file():
        raise SystemExit(
            f"resnet_kernels: no Python.h in {path}: install Python's headers (Debian: python3-dev)"
        )
    return path


def find_nvcc() -> Path | None:
    """The CUDA compiler of CUDA_HOME, of PATH or of the PyPI packages, in this order."""
    home, on_path = os.environ.get("CUDA_HOME"), shutil.which("nvcc")
    candidates = [Path(home, "bin/nvcc")] if home else []
    candidates += [Path(on_path)] if on_path else []
    candidates += [place / "cu13/bin/nvcc" for place in package_dirs("nvidia")]
    return next((path for path in candidates if path.is_file()), None)


def wheel_runtime(nvcc: Path) -> tuple[str, str]:
    """(-I, -L) of the CUDA runtime for PyPI's nvcc; CUDA's own finds its runtime by itself.

    The package of nvcc's release: pip may split an isolated build's packages over two places, with a newer
    runtime beside the compiler.
    """
    places = package_dirs("nvidia") if nvcc.parent.parent.name == "cu13" else []
    same = [place / "cu13" for place in places if any(place.parent.glob("nvidia_cuda_runtime-13.0.*"))]
    return (f" -I{same[0] / 'include'}", f" -L{same[0] / 'lib'}") if same else ("", "")


def missing_compiler() -> list[str]:
    """The packages to install before a build so that there is an nvcc; none if it is there or not wanted."""
    return NVCC_PACKAGES if CUDA and find_nvcc() is None else []


def sources(*patterns: str) -> list[Path]:
    """The files under csrc/ that match, relative to the root and sorted."""
    return sorted(path.relative_to(ROOT) for pattern in patterns for path in (ROOT / "csrc").glob(pattern))


class Plan:
    """The ninja file: two rules, then for each shared object its objects and their link."""

    def __init__(self, file, objects: Path) -> None:
        from ninja.ninja_syntax import Writer

        self.ninja = Writer(file, width=110)
        self.objects = objects
        self.torch = required_dir("torch")
        cxx = os.environ.get("CXX", "c++")
        self.ninja.variable("builddir", str(objects))
        self.rule("cxx", f"{cxx} -MMD -MF $out.d $flags -c $in -o $out")
        # libtorch_cpu holds the stable ABI; `import torch` has loaded it, so its name is enough: no path.  It
        # also exports parts of the C++ library that other builds of torch lack: hence -lstdc++ before it.
        self.ninja.variable("torch", f"-lstdc++ -L{self.torch / 'lib'} -Xlinker --no-as-needed -ltorch_cpu")
        self.ninja.rule("link", f"{cxx} -shared{SANITIZERS} $in $torch -lpthread -o $out", description="$out")

    def rule(self, name: str, command: str) -> None:
        self.ninja.rule(name, command, description="$machine $in", depfile="$out.d", deps="gcc")

    def compile(self, rule: str, machine: str, source: Path, flags: str) -> str:
        target = str(self.objects / machine / source.relative_to("csrc").with_suffix(".o"))
        self.ninja.build(target, rule, str(source), variables={"flags": flags, "machine": machine})
        return target

    def link(self, rule: str, output: Path, objects: list[str]) -> None:
        self.ninja.build(str(output), rule, objects)
        self.ninja.default(str(output))

    def simulator(self, name: str, output: Path) -> None:
        checked = "-DRK_SIM_CHECKED=1 " if name == "_sim_checked" else ""
        flags = (
            f"-x c++ {HOST_FLAGS} {SIM_FLAGS}{SANITIZERS} {checked}-DRK_NAMESPACE=resnet_kernels{name} "
            f"-DRK_DISPATCH_KEY=CPU -DRK_MODULE={name} -Icsrc -Icsrc/machine/sim "
            f"-isystem {self.torch / 'include'} -isystem {python_include()} "
            f"-isystem {required_dir('pybind11') / 'include'}"
        )
        patterns = (
            "binding/*.cpp",
            "dispatch/*.cpp",
            "kernels/**/*.cu",
            "machine/*.cpp",
            "machine/sim/**/*.cpp",
        )
        files = sources(*patterns)
        self.link("link", output, [self.compile("cxx", name, path, flags) for path in files])

    def cuda(self, output: Path) -> None:
        nvcc = find_nvcc()
        if nvcc is None:
            raise SystemExit(
                "resnet_kernels: no CUDA compiler in CUDA_HOME, on PATH or among the installed packages, so "
                "the GPU's kernels cannot be built.\n"
                f"  Install one:           pip install {' '.join(NVCC_PACKAGES)}\n"
                "  Or build without them: RESNET_KERNELS_CUDA=0 (the simulators only)"
            )
        print(f"resnet_kernels: _C is compiled by {nvcc}", flush=True)
        # What ptxas says of registers and spills goes to a log beside the object, for lint and `make sass`.
        # Serialised wgmma (C7510, C7511: "Potential Performance Loss") is information to it, an error here.
        log = "> $out.ptxas 2>&1 || (cat $out.ptxas; exit 1)"
        log += " && ! grep 'Potential Performance Loss' $out.ptxas"
        self.rule("nvcc", f"{nvcc} -MD -MF $out.d $flags -c $in -o $out {log}")
        runtime_headers, runtime_library = wheel_runtime(nvcc)
        # The CUDA runtime is static, torch's CUDA libraries are not linked: _C imports where there is no GPU.
        link = f"{nvcc} -shared -cudart static -nodlink $in $torch{runtime_library} -o $out"
        self.ninja.rule("link_cuda", link, description="$out")
        includes = f"-Icsrc -Icsrc/machine/cuda{runtime_headers}"
        host = (
            f"-O2 {HOST_FLAGS} -DPy_LIMITED_API=0x030A0000 -DRK_NAMESPACE=resnet_kernels "
            f"-DRK_DISPATCH_KEY=CUDA -DRK_MODULE_C {includes} -isystem {self.torch / 'include'} "
            f"-isystem {python_include()}"
        )
        plain = sources("binding/*.cpp", "dispatch/*.cpp", "machine/*.cpp")
        objects = [self.compile("cxx", "_C", path, host) for path in plain]
        for path in sources("kernels/**/*.cu", "machine/cuda/*.cpp", "machine/cuda/*.cu"):
            targets = SM90A if "sm90" in path.parts else SM80_AND_SM90A
            objects.append(self.compile("nvcc", "_C", path, f"{NVCC_FLAGS} {targets} {includes}"))
        self.link("link_cuda", output, objects)


class NinjaBuild(build_ext):
    """build_ext that hands everything to ninja."""

    def run(self) -> None:
        home = ROOT / "build/inplace" if self.inplace else Path(self.build_temp).resolve()
        base = ROOT if self.inplace else Path(self.build_lib).resolve()
        home.mkdir(parents=True, exist_ok=True)
        if not CUDA:
            print("resnet_kernels: RESNET_KERNELS_CUDA=0: the simulators ONLY, no GPU kernels", flush=True)
        file = home / ("build.ninja" if CUDA else "simulators.ninja")
        with open(home / "lock", "w") as lock:  # two builds at once would write the same objects
            fcntl.flock(lock, fcntl.LOCK_EX)
            with file.open("w") as text:
                plan = Plan(text, home)
                for extension in self.extensions:
                    output = base / self.get_ext_filename(extension.name)
                    output.parent.mkdir(parents=True, exist_ok=True)
                    name = extension.name.rpartition(".")[2]
                    plan.cuda(output) if name == "_C" else plan.simulator(name, output)
            # -k 0: what can be built is, so that an error in one machine does not hold up the other.
            ninja = [sys.executable, "-m", "ninja", "-k", "0", "-f", str(file)]
            if subprocess.run(ninja, cwd=ROOT).returncode != 0:
                raise SystemExit("resnet_kernels: the build failed; the compiler's messages are above")


extensions = [Extension("resnet_kernels._sim", []), Extension("resnet_kernels._sim_checked", [])]
if CUDA:
    extensions.append(Extension("resnet_kernels._C", [], py_limited_api=True))

if __name__ == "__main__":
    # A PEP 517 front end asks for build requirements by egg_info; in a build setuptools would fetch them into
    # .eggs/ instead, so there a missing compiler is an error.
    asked = sys.argv[1:2] == ["egg_info"]
    setup(
        ext_modules=extensions,
        cmdclass={"build_ext": NinjaBuild},
        setup_requires=missing_compiler() if asked else [],
    )
