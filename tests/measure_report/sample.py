"""Records as a GPU would leave them, invented: times are drawn at random about the roofline's floor."""

import random
from dataclasses import asdict
from typing import Any

from resnet_kernels.measure.problems import Conv, convolutions
from resnet_kernels.measure.record import Row, Run

BANDWIDTH, PEAK = 4.0e12, 750e12
PEERS = {
    "eager_nchw": ("PyTorch eager, NCHW", 2.6),
    "eager_nhwc": ("PyTorch eager, channels_last", 1.7),
    "compile_max_autotune": ("torch.compile, max-autotune", 1.5),
    "cudnn_graph": ("cuDNN graph API, fused", 1.25),
}
OURS = {"ours": ("resnet_kernels", 1.2)}


def header(date: str = "2026-11-20T10:00:00Z", revision: str = "a" * 40) -> dict[str, Any]:
    """Of a made-up session on an invented device."""
    return {
        "date": date,
        "command": "resnet-kernels bench layers",
        "options": {},
        "device": {
            "kind": "cuda",
            "name": "Sample GPU",
            "capability": "9.0",
            "multiprocessors": 132,
            "cache_bytes": 60 << 20,
            "memory_bytes": 141 << 30,
            "threads": None,
            "driver": "580.1",
        },
        "timer": "CUDA events",
        "clocks": {"sm_mhz": 1980, "memory_mhz": 3201},
        "versions": {"resnet_kernels": "0.1.0", "torch": "2.11.0", "cudnn": "91900", "triton": None},
        "git": {"revision": revision, "dirty": False},
        "binary": None,
        "ours": "this package's kernels, invented",
        "ceilings": {
            "bandwidth": BANDWIDTH,
            "peak": {"bfloat16": PEAK, "float16": PEAK, "float32": 50e12, "tf32": 370e12},
            "source": "measured at the start of this run",
        },
        "peers": {"jax": "jax is not installed"},
    }


def case(draw: random.Random, what: dict[str, Any], floor: float, **more: Any) -> list[dict[str, Any]]:
    """The rows of one case: ours and every peer's, about so many times the floor."""
    key = "/".join(str(what[part]) for part in ("suite", "name", "dtype", "batch", "direction", "epilogue"))
    images = what["direction"] in ("inference", "step")
    rows = []
    for implementation, (label, factor) in (OURS | PEERS).items():
        seconds = floor * factor * draw.uniform(0.85, 1.3)
        row = Row(
            key=f"{key}/{implementation}",
            case=key,
            implementation=implementation,
            label=label,
            ours=implementation in OURS,
            backend="cuda" if implementation in OURS else None,
            runs=100,
            seconds=seconds,
            q1=0.99 * seconds,
            q3=1.01 * seconds,
            iqr=0.02 * seconds,
            floor=floor,
            bound="math" if what["flops"] / PEAK > what["bytes"] / BANDWIDTH else "memory",
            floor_share=floor / seconds,
            tflops=what["flops"] / seconds / 1e12,
            gbs=what["bytes"] / seconds / 1e9,
            images_per_second=what["batch"] / seconds if images else None,
            error=0.002,
            match=True,
            **{**what, **more},
        )
        rows.append(asdict(row))
    ours, peers = rows[0], rows[1:]
    best = min(peers, key=lambda row: row["seconds"])
    ours["best_peer"] = best["implementation"]
    for peer in peers:
        ratio = peer["seconds"] / ours["seconds"]
        verdict = "faster" if ratio > 1.02 else "slower" if ratio < 0.98 else "same"
        told = {"ratio": ratio, "low": 0.97 * ratio, "high": 1.03 * ratio, "verdict": verdict}
        ours["ratios"][peer["implementation"]] = told
    return rows


def layer(draw: random.Random, conv: Conv, batch: int, direction: str, epilogue: str) -> list[dict[str, Any]]:
    values = conv.values(batch)
    flops, moved = 2 * conv.macs(batch), 2 * (values["read"] + values["weight"] + values["y"])
    what = {
        "suite": "layers",
        "name": conv.name,
        "problem": conv.problem(batch),
        "networks": list(conv.count),
        "count": conv.count,
        "dtype": "bfloat16",
        "batch": batch,
        "direction": direction,
        "epilogue": epilogue,
        "flops": flops,
        "bytes": moved,
    }
    return case(draw, what, max(moved / BANDWIDTH, flops / PEAK))


def layers(seed: int = 0, batches: tuple[int, ...] = (256, 32), **more: Any) -> Run:
    """Every convolution of ResNet-50; one row has failed, one result is wrong."""
    draw, rows = random.Random(seed), []
    for batch in batches:
        for direction in ("fprop", "dgrad", "wgrad"):
            for conv in convolutions(["resnet50"]):
                epilogue = conv.epilogues[-1] if direction == "fprop" else "none"
                rows += layer(draw, conv, batch, direction, epilogue)
    rows[-1] |= {"status": "failed", "reason": "CUDNN_STATUS_NOT_SUPPORTED", "seconds": None, "match": None}
    rows[5]["match"] = False
    return Run("layers", header(**more), rows, complete=True)


def _network(draw: random.Random, suite: str, name: str, batch: int, cost: float, direction: str) -> Any:
    what = {
        "suite": suite,
        "name": name,
        "problem": {"image": 224, "classes": 1000},
        "networks": [name],
        "count": {},
        "dtype": "bfloat16",
        "batch": batch,
        "direction": direction,
        "epilogue": "",
        "flops": int(8e9 * batch),
        "bytes": int(5e7 * batch),
        "peak_bytes": int(draw.uniform(2e7, 5e7) * batch),
    }
    return case(draw, what, (batch + 6) * cost)


def networks(seed: int = 1, **more: Any) -> Run:
    """Three networks at four batches."""
    draw, rows = random.Random(seed), []
    for name, cost in (("resnet18", 0.6), ("resnet50", 1.6), ("resnet152", 4.1)):
        for batch in (1, 8, 32, 256):
            rows += _network(draw, "networks", name, batch, cost * 1e-5, "inference")
    return Run("networks", header(**more), rows, complete=True)


def training(seed: int = 2, **more: Any) -> Run:
    """ResNet-50, and the CIFAR networks by depth."""
    draw, rows = random.Random(seed), []
    rows += _network(draw, "training", "resnet50", 256, 7e-5, "step")
    for depth in (20, 32, 44, 56, 110, 1202):
        rows += _network(draw, "training", f"cifar_resnet{depth}", 128, 1e-7 * depth, "step")
    return Run("training", header(**more), rows, complete=False)


def primitives(**more: Any) -> Run:
    """The ceilings."""
    rows = []
    for name, dtype, flops, moved in (
        ("copy", "float32", 0, 2 << 30),
        ("l2", "float32", 0, 40 << 20),
        ("matmul", "bfloat16", 2 * 8192**3, 3 * 2 * 8192**2),
    ):
        seconds = max(moved / BANDWIDTH, flops / PEAK)
        row = Row(
            key=f"primitives/{name}/{dtype}/torch",
            case=f"primitives/{name}/{dtype}",
            suite="primitives",
            name=name,
            problem={},
            networks=[],
            count={},
            dtype=dtype,
            batch=1,
            direction="ceiling",
            epilogue="",
            implementation="torch",
            label={
                "copy": "copy, read and write",
                "l2": "copy within the L2",
                "matmul": "8192 x 8192 product",
            }[name],
            ours=False,
            seconds=seconds,
            flops=flops,
            bytes=moved,
            tflops=flops / seconds / 1e12,
            gbs=moved / seconds / 1e9,
        )
        rows.append(asdict(row))
    return Run("primitives", header(**more), rows, complete=True)


def everything(**more: Any) -> list[Run]:
    """One run of each suite."""
    return [layers(**more), networks(**more), training(**more), primitives(**more)]
