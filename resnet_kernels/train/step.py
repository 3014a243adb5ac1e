"""One iteration of stochastic gradient descent: forward, cross-entropy, backward, update.

In bfloat16 and float16 the network runs under autocast, with weights and the update in float32; for float16
the loss is scaled so that small gradients do not vanish, and an update with infinite gradients is skipped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_kernels.errors import UserError
from resnet_kernels.evaluate import count

from .recipe import Recipe

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
WARM_UPS = 3  # iterations on the side before a CUDA graph is captured, as PyTorch's notes advise


class Step:
    """Trains `network` by one batch when called.

    Args:
        network: as it is to be called: with DistributedDataParallel around it, compiled, or plain.
        parameters_of: the plain network, for its parameters.
        device: where images go.
    """

    def __init__(
        self, network: nn.Module, parameters_of: nn.Module, recipe: Recipe, device: torch.device
    ) -> None:
        self._network = network
        self._device = device
        self._autocast = AUTOCAST[recipe.dtype]
        self.optimizer = torch.optim.SGD(
            parameters_of.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._autocast == torch.float16)

    def __call__(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """Train on a batch at that rate.

        Returns:
            the training errors of the batch, as of `resnet_kernels.evaluate.count`, on the device.
        """
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        counts = self._differentiate(images, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return counts

    def _differentiate(self, images: Tensor, labels: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        return self._forward_backward(images, labels)

    def _forward_backward(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            logits = self._network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        self.scaler.scale(loss).backward()
        return count(logits.detach(), labels)


class GraphedStep(Step):
    """A `Step` whose forward and backward are one CUDA graph, captured at the first call.

    Every batch must have the shape of the first.  The update is outside of the graph, because the learning
    rate changes.

    Raises:
        UserError: there is no GPU.
    """

    def __init__(
        self, network: nn.Module, parameters_of: nn.Module, recipe: Recipe, device: torch.device
    ) -> None:
        if device.type != "cuda":
            raise UserError("--cuda-graph needs a GPU, and this run is on the CPU: leave it out")
        super().__init__(network, parameters_of, recipe, device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: tuple[Tensor, Tensor, Tensor] | None = None

    def _differentiate(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._graph is None or self._static is None:
            self._capture(images, labels)
        assert self._graph is not None and self._static is not None
        static_images, static_labels, counts = self._static
        static_images.copy_(images)
        static_labels.copy_(labels)
        self._graph.replay()
        return counts

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        """Warm up on a side stream, put back what that changed, and capture."""
        static_images, static_labels = images.clone(), labels.clone()
        buffers = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.optimizer.zero_grad()
                self._forward_backward(static_images, static_labels)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        for name, buffer in self._network.named_buffers():
            buffer.copy_(buffers[name])
        self.optimizer.zero_grad()  # gradients are allocated, once, in the graph's own memory
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            counts = self._forward_backward(static_images, static_labels)
        self._graph, self._static = graph, (static_images, static_labels, counts)
