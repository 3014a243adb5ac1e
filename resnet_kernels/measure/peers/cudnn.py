"""cuDNN's fused convolutions: through PyTorch's two calls, and as graphs of nvidia-cudnn-frontend.

    cudnn_fused   relu(conv + bias (+ residual)), BatchNorm folded into weight and bias beforehand
    folded_nhwc   the same without the fused call: what a PyTorch user gets by folding
    cudnn_graph   conv, scale, bias (, add), relu as one graph, the vectors in float32; conv with genstats,
                  which is for float16 alone; the plain gradients.  The fastest of the plans its heuristics
                  name

cuDNN's own documentation says which patterns fuse on which GPU; one that does not fails, and its row says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import exact
from ..case import Implementation, Outputs, Thunk
from ..clock import CudaClock
from ..inputs import Inputs
from ..statistics import median
from .choose import NAMES, Choice

PLANS = 8  # of the heuristics' order, tried out
TRIALS = 5  # runs of each


def convolutions(
    direction: str, epilogue: str, geometry: dict[str, Any], dtype: str, choice: Choice
) -> list[Implementation]:
    """Those of cuDNN's ways that this direction and epilogue have."""
    found = []
    if direction == "fprop" and epilogue in ("bn", "bn_relu", "bn_add_relu", "bn_relu_maxpool"):
        found.append(("folded_nhwc", lambda i: _folded(geometry, epilogue, i), 2 + epilogue.count("_")))
    if direction == "fprop" and epilogue in ("bn_relu", "bn_add_relu"):
        found.append(("cudnn_fused", lambda i: _fused(geometry, epilogue, i), 2))
    if "sums" not in epilogue and "maxpool" not in epilogue:
        found.append(("cudnn_graph", lambda i: _graph(direction, geometry, epilogue, i), 1))
    return [
        Implementation(
            name,
            NAMES[name],
            bind,
            roundings=roundings,
            absent=choice.absent(name),
            finish=_variance if name == "cudnn_graph" and epilogue == "stats" else None,
        )
        for name, bind, roundings in found
    ]


def folded(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """(weight, bias) with BatchNorm in them, in the weight's dtype."""
    s, b, _ = exact.affine(inputs)
    weight = (inputs["weight"].double() * s.view(-1, 1, 1, 1)).to(inputs["weight"].dtype)
    return weight.contiguous(memory_format=torch.channels_last), b.to(weight.dtype)


def _folded(geometry: dict[str, Any], epilogue: str, inputs: Inputs) -> Thunk:
    weight, bias = folded(inputs)

    def call() -> Outputs:
        y = F.conv2d(inputs["x"], weight, bias, **geometry)
        if "add" in epilogue:
            y = y.add_(inputs["residual"])
        if "relu" in epilogue:
            y = y.relu_()
        return (F.max_pool2d(y, 3, 2, 1) if "maxpool" in epilogue else y,)

    return call


def _fused(geometry: dict[str, Any], epilogue: str, inputs: Inputs) -> Thunk:
    weight, bias = folded(inputs)
    x, residual = inputs["x"], inputs.get("residual")
    window: dict[str, Any] = {**{name: [value] * 2 for name, value in geometry.items()}, "groups": 1}
    if residual is None:
        return lambda: (torch.cudnn_convolution_relu(x, weight, bias, **window),)
    return lambda: (torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, **window),)


def _graph(direction: str, geometry: dict[str, Any], epilogue: str, inputs: Inputs) -> Thunk:
    """Build the graph, try its plans, and keep the fastest."""
    import cudnn

    kinds = {
        torch.bfloat16: cudnn.data_type.BFLOAT16,
        torch.float16: cudnn.data_type.HALF,
        torch.float32: cudnn.data_type.FLOAT,
    }
    kind = kinds[inputs["weight"].dtype]
    graph = cudnn.pygraph(
        io_data_type=kind,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
    )
    bound: dict[Any, Tensor] = {}  # the graph's tensor -> what it stands for

    def operand(name: str, value: Tensor) -> Any:
        shape = {"dim": list(value.shape), "stride": list(value.stride())}
        tensor = graph.tensor(name=name, data_type=kinds[value.dtype], **shape)
        bound[tensor] = value
        return tensor

    def result(tensor: Any, value: Tensor) -> Tensor:
        tensor.set_output(True).set_data_type(kinds[value.dtype])
        tensor.set_dim(list(value.shape)).set_stride(list(value.stride()))
        bound[tensor] = value
        return value

    window = {name: [value] * 2 for name, value in geometry.items()}
    window = {key: window[key] for key in ("padding", "stride", "dilation")}
    add = {"fprop": _forward, "dgrad": _input_gradient, "wgrad": _weight_gradient}[direction]
    outputs = add(graph, operand, result, window, epilogue, inputs)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    return _fastest(graph, bound, outputs)


def _forward(
    graph: Any,
    operand: Callable[[str, Tensor], Any],
    result: Callable[[Any, Tensor], Tensor],
    window: dict[str, Any],
    epilogue: str,
    inputs: Inputs,
) -> Outputs:
    x, weight = inputs["x"], inputs["weight"]
    last = graph.conv_fprop(image=operand("x", x), weight=operand("weight", weight), **window)
    size = exact.output_size(inputs, {"stride": window["stride"][0], "padding": window["padding"][0]})
    shape = (x.shape[0], weight.shape[0], *size)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if epilogue == "stats":
        sums = list(graph.genstats(name="stats", input=last))
        vector = torch.empty((1, shape[1], 1, 1), device=x.device)
        return (result(last, y), *(result(tensor, vector.clone()) for tensor in sums))
    if "bn" in epilogue:
        s, b, _ = exact.affine(inputs)
        last = graph.scale(name="scale", input=last, scale=operand("s", exact.per_channel(s.float())))
        last = graph.bias(name="bias", input=last, bias=operand("b", exact.per_channel(b.float())))
    if "add" in epilogue:
        last = graph.add(name="add", a=last, b=operand("residual", inputs["residual"]))
    if "relu" in epilogue:
        last = graph.relu(name="relu", input=last)
    return (result(last, y),)


def _input_gradient(
    graph: Any,
    operand: Callable[[str, Tensor], Any],
    result: Callable[[Any, Tensor], Tensor],
    window: dict[str, Any],
    epilogue: str,
    inputs: Inputs,
) -> Outputs:
    loss, weight = operand("dy", inputs["dy"]), operand("weight", inputs["weight"])
    return (result(graph.conv_dgrad(loss=loss, filter=weight, **window), torch.empty_like(inputs["y"])),)


def _weight_gradient(
    graph: Any,
    operand: Callable[[str, Tensor], Any],
    result: Callable[[Any, Tensor], Tensor],
    window: dict[str, Any],
    epilogue: str,
    inputs: Inputs,
) -> Outputs:
    image, loss = operand("x", inputs["x"]), operand("dy", inputs["dy"])
    return (result(graph.conv_wgrad(image=image, loss=loss, **window), torch.empty_like(inputs["weight"])),)


def _fastest(graph: Any, bound: dict[Any, Tensor], outputs: Outputs) -> Thunk:
    """The call of the plan that runs fastest of the first few; the first error if none runs."""
    calls: list[tuple[float, Thunk]] = []
    reason: Exception | None = None
    for index in range(min(PLANS, graph.get_execution_plan_count())):
        try:
            graph.build_plan_at_index(index)
            size = max(1, graph.get_workspace_size_plan_at_index(index))
            workspace = torch.empty(size, dtype=torch.uint8, device="cuda")

            def call(index: int = index, workspace: Tensor = workspace) -> Outputs:
                graph.execute_plan_at_index(bound, workspace, index)
                return outputs

            CudaClock(True).burst([call], None)
            calls.append((median(CudaClock(True).burst([call] * TRIALS, None)), call))
        except Exception as error:  # plans may be refused one by one
            reason = reason or error
    if not calls:
        raise RuntimeError(f"no plan runs: {reason}")
    return min(calls, key=lambda entry: entry[0])[1]


def _variance(results: Outputs) -> Outputs:
    """(y, mean, variance) from (y, sum, sum of squares)."""
    y, total, squares = results
    pixels = y.numel() // y.shape[1]
    mean = total.double().view(-1) / pixels
    return y, mean.float(), (squares.double().view(-1) / pixels - mean.square()).float()
