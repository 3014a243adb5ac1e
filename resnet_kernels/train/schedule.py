"""The learning rate over a run: divided in steps or on a plateau, after a warm-up if the recipe has one."""

from __future__ import annotations

import math
from typing import Any

from .recipe import Recipe


class Schedule:
    """The learning rate of every iteration, from what the run reports of itself.

    All processes report the same errors, so that they agree without talking.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._warming = recipe.warmup_learning_rate is not None
        self._divisions = 0  # made on plateaus
        self._best = math.inf  # lowest test error
        self._waited = 0  # tests since then

    def learning_rate(self, iteration: int) -> float:
        """The rate of the iteration that follows `iteration` completed ones."""
        recipe = self._recipe
        if self._warming and recipe.warmup_learning_rate is not None:
            return recipe.warmup_learning_rate
        divisions = self._divisions
        if recipe.schedule == "steps":
            divisions = sum(iteration >= step for step in recipe.steps)
        return recipe.learning_rate / recipe.divide_by**divisions

    def trained(self, error: float) -> None:
        """The training error of the iterations since the last row of the log."""
        if error < self._recipe.warmup_until_error:
            self._warming = False

    def tested(self, error: float) -> None:
        """The test error; on a plateau the rate falls, and the count of tests begins anew."""
        if self._recipe.schedule != "plateau" or self._warming:
            return
        if error <= self._best - self._recipe.plateau_least:
            self._best, self._waited = error, 0
            return
        self._waited += 1
        if self._waited >= self._recipe.plateau_tests:
            self._divisions += 1
            self._waited = 0

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "warming": self._warming,
            "divisions": self._divisions,
            "best": self._best,
            "waited": self._waited,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another schedule of this recipe."""
        self._warming, self._divisions = state["warming"], state["divisions"]
        self._best, self._waited = state["best"], state["waited"]
