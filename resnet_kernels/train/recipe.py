"""A recipe: everything that decides the outcome of a training run, but for the images and the machine.

Recipes are TOML files of the keys below.  Those of the paper come with the package: imagenet, cifar10,
cifar10-resnet110, and digits, which runs anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from resnet_kernels import backend, data, models
from resnet_kernels.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEDULES = ("steps", "plateau", "constant")
DTYPES = ("float32", "bfloat16", "float16")
_BUILT_IN = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.  Rates are per iteration; errors are fractions 0 .. 1.

    Args:
        data: the set of images (`resnet_kernels.data.NAMES`).
        model: the network (`resnet_kernels.models.names()`).
        iterations: batches in all.
        batch: images an iteration, over all processes.
        learning_rate, momentum, weight_decay: of stochastic gradient descent.
        size: pixels a side of what the network sees; None for the set's own.
        model_options: what the network's constructor takes besides num_classes.
        schedule: "steps": the learning rate is divided by `divide_by` at each of the iterations `steps`;
            "plateau": after `plateau_tests` tests without a test error at least `plateau_least` below the
            best; "constant".
        warmup_learning_rate: the rate until the training error between two rows of the log is below
            `warmup_until_error`; None for no warm-up.
        dtype: of the convolutions: float32 (on a GPU TF32, as far as torch.backends.cudnn.conv allows it), or
            under autocast bfloat16 or float16 (with a scaled loss).
        backend: what runs the kernels (`resnet_kernels.backend`).
        seed: of the initial weights, the order of the images and their augmentation.
        synchronised_batchnorm: over several processes, normalise their batches as one.
        compile: torch.compile the network.
        cuda_graph: replay forward and backward as one CUDA graph.
        log_every, test_every, checkpoint_every: iterations between rows of the log, tests and checkpoints.

    Raises:
        UserError: a value is out of range; the text names the key.
    """

    data: str
    model: str
    iterations: int
    batch: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 1e-4
    size: int | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    steps: tuple[int, ...] = ()
    divide_by: float = 10.0
    plateau_tests: int = 8
    plateau_least: float = 0.001
    warmup_learning_rate: float | None = None
    warmup_until_error: float = 0.8
    dtype: str = "float32"
    backend: str = "auto"
    seed: int = 0
    synchronised_batchnorm: bool = False
    compile: bool = False
    cuda_graph: bool = False
    log_every: int = 100
    test_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        for name, choices in (
            ("data", data.NAMES),
            ("model", tuple(models.names())),
            ("schedule", SCHEDULES),
            ("dtype", DTYPES),
            ("backend", backend.choices()),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} = {getattr(self, name)!r}: wanted one of {', '.join(choices)}")
        for name in (
            "iterations", "batch", "size", "plateau_tests", "log_every", "test_every", "checkpoint_every"
        ):  # fmt: skip
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: wanted an integer of at least 1")
        for name in ("learning_rate", "warmup_learning_rate"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} = {getattr(self, name)}: wanted a number above 0")
        for name in ("momentum", "weight_decay", "plateau_least", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} = {getattr(self, name)}: wanted a number that is not negative")
        if not self.momentum < 1:
            raise UserError(f"momentum = {self.momentum}: wanted a number below 1")
        if not 1 < self.divide_by < math.inf:
            raise UserError(f"divide_by = {self.divide_by}: wanted a number above 1")
        if not 0 < self.warmup_until_error <= 1:
            raise UserError(f"warmup_until_error = {self.warmup_until_error}: wanted a fraction in 0 .. 1")
        if list(self.steps) != sorted(set(self.steps)) or any(step < 1 for step in self.steps):
            raise UserError(f"steps = {list(self.steps)}: wanted growing numbers of iterations")
        if (self.schedule == "steps") != bool(self.steps):
            raise UserError(
                f"steps = {list(self.steps)} and schedule = {self.schedule!r}: give steps with schedule = "
                "'steps', and with it alone"
            )

    @staticmethod
    def load(name: str | Path) -> Recipe:
        """The built-in recipe called `name`, or the one in the TOML file `name`.

        Raises:
            UserError: there is neither, or the file is damaged, or a key or value in it is wrong.
        """
        path = Path(name)
        if str(name) in names():
            path = _BUILT_IN / f"{name}.toml"
        elif not path.is_file():
            wanted = f"one of {', '.join(names())}, or a TOML file"
            raise UserError(f"--recipe {name}: there is no such recipe or file: wanted {wanted}")
        try:
            with path.open("rb") as file:
                content = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"--recipe {name} is no TOML file: {error}") from error
        except OSError as error:
            raise UserError(f"--recipe {name} cannot be read: {error}") from error
        try:
            return Recipe.of(content)
        except UserError as error:
            raise UserError(f"--recipe {name}: {error}") from error

    @staticmethod
    def of(content: Mapping[str, Any]) -> Recipe:
        """The recipe of the keys and values in `content`.

        Raises:
            UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
        """
        fields = {each.name: each for each in dataclasses.fields(Recipe)}
        for key in content:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
                raise UserError(f"unknown key {key!r}: {hint}")
        for name, each in fields.items():
            required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            if required and name not in content:
                raise UserError(f"the key {name!r} is missing")
        return Recipe(**{key: _typed(key, value) for key, value in content.items()})

    def replaced(self, **changes: Any) -> Recipe:
        """This recipe with other values for some keys, checked again."""
        return Recipe.of({**self.content(), **changes})

    def content(self) -> dict[str, Any]:
        """Keys and values as plain numbers, strings, lists and dictionaries; `of` is the inverse."""
        content = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return {**content, "steps": list(self.steps)}

    def text(self) -> str:
        """The recipe as TOML; `load` is the inverse."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.content().items())


def names() -> tuple[str, ...]:
    """The built-in recipes."""
    return tuple(sorted(path.stem for path in _BUILT_IN.glob("*.toml")))


def _typed(key: str, value: Any) -> Any:
    """`value` as the type of the field `key`; UserError if it is of another."""
    if value is None:
        return None
    hint = get_type_hints(Recipe)[key]
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if "None" in str(hint) else [hint]
    kind = kinds[0]
    if kind is float and type(value) is int:
        return float(value)
    if key == "steps":
        if isinstance(value, (list, tuple)) and all(type(step) is int for step in value):
            return tuple(value)
        raise UserError(f"steps = {value!r}: wanted a list of integers")
    if key == "model_options":
        if isinstance(value, dict):
            return dict(value)
        raise UserError(f"model_options = {value!r}: wanted a table")
    if type(value) is not kind:
        what = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}[kind]
        raise UserError(f"{key} = {value!r}: wanted {what}")
    return value


def _toml(value: Any) -> str:
    """A plain value as TOML, whose strings, numbers, booleans and lists are JSON's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
