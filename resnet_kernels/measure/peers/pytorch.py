"""PyTorch's ways to run one function of a set of inputs: either layout, a CUDA graph, torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..case import Bind, Implementation, Outputs, Thunk
from ..inputs import Inputs
from .choose import NAMES, Choice

Function = Callable[[Inputs], Outputs]
LEFT_OUT = {
    "eager_nhwc_graph": "a layer's time is the GPU's alone, in a graph or not",
    "eager_nchw_graph": "a layer's time is the GPU's alone, in a graph or not",
    "compile_default": "compiles for every layer anew",
    "compile_max_autotune": "compiles for every layer anew",
}
"""What the suite of layers does without, unless it is asked for."""

WARM_UPS = 3  # calls before a capture: cuDNN searches, libraries make their handles


def nchw(inputs: Inputs) -> Inputs:
    """The same values, contiguous."""
    return {name: value.contiguous() for name, value in inputs.items()}


def eager(function: Function) -> Bind:
    """Called as it is, on channels_last inputs."""
    return lambda inputs: partial(function, inputs)


def eager_nchw(function: Function) -> Bind:
    """On contiguous inputs."""
    return lambda inputs: partial(function, nchw(inputs))


def captured(bind: Bind) -> Bind:
    """What `bind` gives, replayed as a CUDA graph: the host's work is one launch."""

    pools: list[Any] = []  # one for all sets: their graphs never run at once

    def bound(inputs: Inputs) -> Thunk:
        if not pools:
            pools.append(torch.cuda.graph_pool_handle())
        call = bind(inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pools[0]):
            results = call()

        def replay() -> Outputs:
            graph.replay()
            return results

        return replay

    return bound


def compiled(function: Function, mode: str | None) -> Bind:
    """Under torch.compile, for static shapes; compiled at the first call."""

    def bound(inputs: Inputs) -> Thunk:
        return partial(program, inputs)

    program = torch.compile(function, mode=mode, dynamic=False)
    return bound


def implementations(function: Function, choice: Choice, roundings: int) -> list[Implementation]:
    """One layer's function every way there is; kernels are compared, so max-autotune has no graphs of its
    own.
    """
    torch._dynamo.reset()  # programs of earlier cases count against the limit of recompilations
    binds = {
        "eager_nhwc": eager(function),
        "eager_nchw": eager_nchw(function),
        "eager_nhwc_graph": captured(eager(function)),
        "eager_nchw_graph": captured(eager_nchw(function)),
        "compile_default": compiled(function, None),
        "compile_max_autotune": compiled(function, "max-autotune-no-cudagraphs"),
    }
    return [
        Implementation(
            name=name,
            label=NAMES[name],
            bind=bind,
            roundings=roundings,
            absent=choice.absent(name, LEFT_OUT.get(name)),
            memory=not name.endswith("graph"),
        )
        for name, bind in binds.items()
    ]
