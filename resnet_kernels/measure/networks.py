"""Cases of whole networks in inference: images a second and latency, by batch.

Times are those of a loop that does nothing else: the host's work counts where the device waits for it,
which is what CUDA graphs are there for.  The floor is the sum of the layers' floors: one kernel a fused
layer, nothing kept in cache between two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from .. import flops
from . import plain
from .case import Bind, Case, Implementation, Ours, Outputs
from .inputs import Inputs, generator, normal
from .match import Verdict, distance, relative
from .peers import NAMES, Choice, pytorch
from .roofline import TORCH_DTYPES

JUDGED = {"cuda": 8, "cpu": 2}  # images of a batch that are compared with float64


def case(name: str, batch: int, dtype: str, choice: Choice, ours: Ours, image: int | None = None) -> Case:
    """One network on random images of `image` pixels a side, the paper's by default."""
    size = image or plain.image_size(name)
    count = flops.count(name, (batch, 3, size, size), dtype="float32" if dtype == "tf32" else dtype)
    return Case(
        suite="networks",
        name=name if size == plain.image_size(name) else f"{name} {size}x{size}",
        dtype=dtype,
        batch=batch,
        direction="inference",
        make=partial(_make, batch, size, dtype, choice.device),
        implementations=partial(_implementations, name, dtype, choice, ours),
        problem={"image": size, "classes": plain.classes(name)},
        networks=[name],
        flops=count.flops,
        bytes=count.bytes,
        parts=tuple((2 * layer.macs, layer.bytes) for layer in count.layers),
        judge=partial(_judge, name, dtype, choice.device),
        cache="steady",
        images=True,
        hidden=False,
    )


def _make(batch: int, size: int, dtype: str, device: torch.device, seed: int) -> Inputs:
    x = normal(generator(device, seed), batch, 3, size, size).to(TORCH_DTYPES[dtype])
    return {"x": x.contiguous(memory_format=torch.channels_last)}


def _implementations(name: str, dtype: str, choice: Choice, ours: Ours) -> list[Implementation]:
    torch._dynamo.reset()
    kind, device = TORCH_DTYPES[dtype], choice.device
    made: dict[str, nn.Module] = {}

    def model(variant: str) -> nn.Module:
        """Built when first called: an implementation that is not wanted costs nothing."""
        if variant not in made:
            mine, layout = variant == "ours", "nchw" if variant.endswith("nchw") else "nhwc"
            network = plain.build(name, device, ours=mine, layout=layout).eval()
            if variant.startswith("folded"):
                network = plain.folded(network)
            made[variant] = plain.lower(network, kind)
        return made[variant]

    def call(variant: str) -> Bind:
        def bound(inputs: Inputs) -> Callable[[], Outputs]:
            network, x = model(variant), inputs["x"]
            x = x.contiguous() if variant.endswith("nchw") else x
            return lambda: (network(x),)

        return bound

    def compiled(variant: str, mode: str | None) -> Bind:
        programs: list[Callable[[Tensor], Tensor]] = []

        def bound(inputs: Inputs) -> Callable[[], Outputs]:
            if not programs:
                programs.append(torch.compile(model(variant), mode=mode, dynamic=False))
            return lambda: (programs[0](inputs["x"]),)

        return bound

    mine = {
        "ours": call("ours"),
        "ours_graph": pytorch.captured(call("ours")),
        "ours_compile": compiled("ours", None),
    }
    peers = {
        "eager_nhwc": call("eager_nhwc"),
        "eager_nchw": call("eager_nchw"),
        "folded_nhwc": call("folded_nhwc"),
        "eager_nhwc_graph": pytorch.captured(call("eager_nhwc")),
        "eager_nchw_graph": pytorch.captured(call("eager_nchw")),
        "folded_nhwc_graph": pytorch.captured(call("folded_nhwc")),
        "compile_default": compiled("eager_nhwc", None),
        "compile_max_autotune": compiled("eager_nhwc", "max-autotune"),
    }
    return ours_and_peers(mine, peers, choice, ours)


def ours_and_peers(
    mine: dict[str, Bind], peers: dict[str, Bind], choice: Choice, ours: Ours
) -> list[Implementation]:
    """What is bound by name, with labels, and with reasons for what cannot be here."""
    suffixes = {"ours": "", "ours_graph": ", CUDA graph", "ours_compile": ", torch.compile"}
    return [
        *(
            Implementation(
                name,
                ours.label + suffixes[name],
                bind,
                ours=True,
                absent=choice.absent_of_ours(name),
                memory=not name.endswith("graph"),
            )
            for name, bind in mine.items()
        ),
        *(
            Implementation(
                name, NAMES[name], bind, absent=choice.absent(name), memory=not name.endswith("graph")
            )
            for name, bind in peers.items()
        ),
    ]


def _judge(
    name: str,
    dtype: str,
    device: torch.device,
    inputs: Inputs,
    results: dict[str, tuple[Implementation, Outputs]],
) -> dict[str, Verdict]:
    """Logits of some images, by PyTorch's own error from float64; in evaluation images do not mix."""
    images = JUDGED[device.type]
    exact = plain.build(name, device, ours=False).double().eval()(inputs["x"][:images].double())
    errors = {who: distance([outputs[0][:images]], [exact]) for who, (_, outputs) in results.items()}
    eager = [error for who, error in errors.items() if who in ("eager_nhwc", "eager_nchw")]
    if not eager:
        network = plain.lower(plain.build(name, device, ours=False), TORCH_DTYPES[dtype]).eval()
        eager = [distance([network(inputs["x"][:images])], [exact])]
    return {who: relative(error, max(eager), dtype) for who, error in errors.items()}
