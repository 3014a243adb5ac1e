"""What a time depends on beside the code: device, clocks, versions, revision.  It stands in every record."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..machine import processor

_PACKAGES = {
    "numpy": "numpy",
    "torchvision": "torchvision",
    "triton": "triton",
    "jax": "jax",
    "cudnn_frontend": "nvidia-cudnn-frontend",
    "cupy": "cupy-cuda13x",
}
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
CPU_CACHE = 32 << 20  # bytes, where the system does not say


def describe(device: torch.device) -> dict[str, Any]:
    """The header's part that the machine alone decides: date, device, clocks, versions, git, binary."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": _device(device),
        "clocks": clocks(device),
        "versions": versions(),
        "git": revision(),
        "binary": _binary(),
    }


def _device(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "kind": "cuda",
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "cache_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
            "threads": None,
            "driver": "".join(_nvidia_smi("driver_version", device)) or None,
        }
    return {
        "kind": "cpu",
        "name": processor(),
        "capability": None,
        "multiprocessors": None,
        "cache_bytes": cpu_cache(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "threads": torch.get_num_threads(),
        "driver": None,
    }


def cache_bytes(device: torch.device) -> int:
    """The last cache before memory: a GPU's L2, a CPU's last level."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return cpu_cache()


def cpu_cache() -> int:
    """Bytes of this CPU's largest cache, 32 MiB where the system does not say."""
    sizes = []
    for path in _CACHE.glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", path.read_text().strip())
        if match:
            sizes.append(int(match[1]) * _UNITS.get(match[2], 1))
    return max(sizes, default=CPU_CACHE)


def clocks(device: torch.device) -> dict[str, Any]:
    """Clock rates in MHz, temperature, power and why the GPU slows down, as far as the system tells; may be
    {}.
    """
    if device.type == "cuda":
        names = ("sm_mhz", "memory_mhz", "temperature_c", "power_w", "throttle")
        query = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_event_reasons.active"
        values = _nvidia_smi(query, device)
        return {name: _number(value) for name, value in zip(names, values, strict=False)}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    rates = [float(rate) for rate in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
    return {"cpu_mhz": max(rates)} if rates else {}


def versions() -> dict[str, str | None]:
    """Of everything that computes; None: not installed."""
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    found: dict[str, str | None] = {
        "resnet_kernels": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
    }
    for name, package in _PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def revision() -> dict[str, Any]:
    """The commit this package's files are of, and whether some are changed; None where git does not say."""
    root = Path(__file__).resolve().parents[2]
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if commit is None:
        return {"revision": None, "dirty": None}
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "-uno"])
    return {"revision": commit, "dirty": bool(changed)}


def command() -> str:
    """The command line of this process, as a user would type it."""
    return " ".join(["resnet-kernels", *sys.argv[1:]])


def _binary() -> str | None:
    """The start of _C's SHA-256: which kernels these are, whatever the revision says."""
    spec = importlib.util.find_spec("resnet_kernels._C")
    if spec is None or spec.origin is None:
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


def _nvidia_smi(query: str, device: torch.device) -> list[str]:
    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)  # smi's numbers are not PyTorch's
    chosen = f"GPU-{uuid}" if uuid is not None else str(index)
    text = _output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "-i", chosen])
    return [value.strip() for value in text.splitlines()[0].split(",")] if text else []


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _output(words: list[str]) -> str | None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
