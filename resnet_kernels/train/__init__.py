"""Training with the paper's protocols: recipes, checkpoints that resume bit for bit, several processes.

recipe = train.Recipe.load("digits").replaced(iterations=200)
result = train.run(recipe, "runs/digits")
result = train.resume("runs/digits", iterations=400)
network, checkpoint = train.checkpoint.network("runs/digits")
"""

from . import checkpoint
from .checkpoint import Checkpoint
from .log import Row
from .recipe import Recipe, names
from .runs import Result, Watcher, resume, run

__all__ = ["Checkpoint", "Recipe", "Result", "Row", "Watcher", "checkpoint", "names", "resume", "run"]
