"""Processes to run in."""

import multiprocessing
import os

import pytest


@pytest.fixture(scope="session")
def processes():
    """Processes that begin with the package imported and no threads: a run in one costs no start-up."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resnet_kernels.train", "sklearn.datasets", "torchvision.transforms.v2"])
    process = context.Process(target=int)
    process.start()
    process.join()
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    return context
