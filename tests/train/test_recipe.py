"""Recipes: the paper's figures, files and back, and what is said of every wrong key and value."""

import pytest

from resnet_kernels import data, models, train
from resnet_kernels.errors import UserError


def test_the_papers_recipes():
    imagenet, cifar = train.Recipe.load("imagenet"), train.Recipe.load("cifar10")
    assert (imagenet.batch, imagenet.iterations, imagenet.schedule) == (256, 600_000, "plateau")
    assert (cifar.batch, cifar.iterations, cifar.steps) == (128, 64_000, (32_000, 48_000))
    for recipe in (imagenet, cifar):
        assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
        assert recipe.divide_by == 10 and recipe.warmup_learning_rate is None
    deep = train.Recipe.load("cifar10-resnet110")
    assert (deep.warmup_learning_rate, deep.warmup_until_error) == (0.01, 0.8)
    assert deep.replaced(model=cifar.model).content() | {"warmup_learning_rate": None} == (
        cifar.content() | {"warmup_learning_rate": None}
    )


@pytest.mark.parametrize("name", train.names())
def test_built_in_recipes_name_what_there_is(name):
    recipe = train.Recipe.load(name)
    assert recipe.data in data.NAMES and recipe.model in models.names()


@pytest.mark.parametrize("name", train.names())
def test_text_and_back(name, tmp_path):
    recipe = train.Recipe.load(name).replaced(model_options={"shortcut": "A"}, size=24, weight_decay=1e-7)
    (tmp_path / "recipe.toml").write_text(recipe.text())
    assert train.Recipe.load(tmp_path / "recipe.toml") == recipe


GOOD = 'data = "digits"\nmodel = "cifar_resnet20"\niterations = 10\nbatch = 8\nlearning_rate = 1\n'


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    recipe = train.Recipe.load(tmp_path / "mine.toml")
    assert recipe.learning_rate == 1.0 and recipe.schedule == "constant"


@pytest.mark.parametrize(
    "text, message",
    [
        ("lerning_rate = 0.1", r"unknown key 'lerning_rate': did you mean 'learning_rate'\?"),
        ("zzz = 1", "unknown key 'zzz': there are data, model"),
        ('momentum = "high"', "momentum = 'high': wanted a number"),
        ("iterations = 1.5", "iterations = 1.5: wanted an integer"),
        ("iterations = true", "iterations = True: wanted an integer"),
        ("iterations = 0", "iterations = 0: wanted an integer of at least 1"),
        ("learning_rate = -1", "learning_rate = -1.0: wanted a number above 0"),
        ("learning_rate = nan", "learning_rate = nan: wanted a number above 0"),
        ("momentum = 1", r"momentum = 1.0: wanted a number below 1"),
        ("weight_decay = inf", "weight_decay = inf: wanted"),
        ("divide_by = 1", "divide_by = 1.0: wanted a number above 1"),
        ("compile = 1", "compile = 1: wanted true or false"),
        ('dtype = "int8"', "dtype = 'int8': wanted one of float32, bfloat16, float16"),
        ('model = "resnet19"', "model = 'resnet19': wanted one of .*resnet18"),
        ('data = "mnist"', "data = 'mnist': wanted one of imagenet, cifar10"),
        ('schedule = "cosine"', "schedule = 'cosine': wanted one of steps, plateau, constant"),
        ('schedule = "steps"', "steps = .*: give steps with schedule"),
        ("steps = [5]", "steps = .*: give steps with schedule"),
        ('schedule = "steps"\nsteps = [9, 5]', "growing numbers"),
        ('schedule = "steps"\nsteps = 5', "steps = 5: wanted a list of integers"),
        ("warmup_until_error = 80", "wanted a fraction"),
        ("warmup_learning_rate = 0", "warmup_learning_rate = 0.0: wanted a number above 0"),
        ('backend = "tpu"', "backend = 'tpu': wanted one of"),
        ("model_options = 3", "model_options = 3: wanted a table"),
        ("batch = ", "is no TOML file"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, text, message):
    key = text.partition(" ")[0]
    kept = "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(f"{key} "))
    (tmp_path / "mine.toml").write_text(kept + text)
    with pytest.raises(UserError, match=rf"--recipe .*mine.toml.*{message}"):
        train.Recipe.load(tmp_path / "mine.toml")


def test_missing_keys_files_and_recipes(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD.replace("batch = 8\n", ""))
    with pytest.raises(UserError, match="the key 'batch' is missing"):
        train.Recipe.load(tmp_path / "mine.toml")
    with pytest.raises(UserError, match=r"no such recipe or file: wanted one of cifar10, .*TOML file"):
        train.Recipe.load("resnet")
    with pytest.raises(UserError, match="no TOML file"):
        (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
        train.Recipe.load(tmp_path / "mine.toml")


def test_replaced_values_are_checked():
    recipe = train.Recipe.load("digits")
    assert recipe.replaced(iterations=7).iterations == 7
    with pytest.raises(UserError, match="batch = 0"):
        recipe.replaced(batch=0)
