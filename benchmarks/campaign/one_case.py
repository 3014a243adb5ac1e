"""One case of a record, and nothing else, for a profiler to watch: our implementation, a few calls.

    ncu --profile-from-start off ... python -m benchmarks.campaign.one_case layers.json KEY
    python -m benchmarks.campaign.one_case layers.json KEY --backend simulator      without a GPU

On a GPU the call after the warm-up stands between cudaProfilerStart and cudaProfilerStop.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import resnet_kernels as rk
from resnet_kernels.errors import UserError
from resnet_kernels.measure import record, suites
from resnet_kernels.measure.case import Case, Ours, Thunk
from resnet_kernels.measure.peers import Choice
from resnet_kernels.measure.precision import float32_products

WARM_UPS = 2


def find(run: record.Run, key: str, device: torch.device, backend: str) -> Case:
    """The case that a record's rows call `key`, from the options that the record was made with.

    Raises:
        UserError: the suite has no such case at those options.
    """
    kept = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in run.header["options"].items()
    }
    options = suites.Options(**kept)
    choice = Choice(device, options.peers, options.quick)
    for case in suites.cases(run.suite, options, choice, Ours(backend, "resnet_kernels")):
        if case.key == key:
            return case
    raise UserError(f"no case {key!r} at the options of {run.path}; its rows' `case` names those there are")


def call(case: Case, backend: str) -> bool:
    """Run it; whether all results are finite numbers."""
    with torch.no_grad(), rk.backend(backend), float32_products(tf32=case.dtype == "tf32"):
        (ours,) = (way for way in case.implementations() if way.name == "ours")
        assert ours.bind is not None
        run = ours.bind(case.make(0))
        results = _watched(run) if backend == "cuda" else run()
    return all(bool(result.isfinite().all()) for result in results if result.is_floating_point())


def _watched(run: Thunk) -> tuple[torch.Tensor, ...]:
    for _ in range(WARM_UPS):
        run()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    results = run()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return results


def main() -> int:
    """0 if the results are finite, 1 if not, 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign.one_case", description=__doc__)
    parser.add_argument("record", type=Path, help="a file of `resnet-kernels bench`")
    parser.add_argument("key", help="a row's `case`")
    parser.add_argument("--backend", default="cuda", choices=["cuda", "simulator"])
    options = parser.parse_args()
    device = torch.device("cuda" if options.backend == "cuda" else "cpu")
    try:
        case = find(record.load(options.record), options.key, device, options.backend)
    except UserError as error:
        parser.error(str(error))
    finite = call(case, options.backend)
    print(f"{case.key}: {'finite' if finite else 'not finite'}")
    return int(not finite)


if __name__ == "__main__":
    raise SystemExit(main())
