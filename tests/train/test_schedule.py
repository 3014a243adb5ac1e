"""The learning rate: steps, plateaus, the warm-up, and that a restored schedule goes on the same."""

import random

import pytest

from resnet_kernels import train
from resnet_kernels.train.schedule import Schedule

DIGITS = train.Recipe.load("digits")


def test_cifars_steps():
    schedule = Schedule(train.Recipe.load("cifar10"))
    wanted = {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}
    assert {k: schedule.learning_rate(k) for k in wanted} == pytest.approx(wanted)


def test_resnet110_warms_up_until_the_error_is_below_80_per_cent():
    schedule = Schedule(train.Recipe.load("cifar10-resnet110"))
    for error in (0.9, 0.85, 0.8):
        schedule.trained(error)
        assert schedule.learning_rate(400) == 0.01
    schedule.trained(0.79)
    assert schedule.learning_rate(400) == 0.1
    schedule.trained(0.95)
    assert schedule.learning_rate(500) == 0.1  # once warm, always warm


def test_a_plateau_divides_the_rate():
    recipe = DIGITS.replaced(schedule="plateau", steps=[], plateau_tests=3, plateau_least=0.01)
    schedule = Schedule(recipe)

    def rates(*errors):
        found = []
        for error in errors:
            schedule.tested(error)
            found.append(round(schedule.learning_rate(1), 6))
        return found

    assert rates(0.9, 0.8, 0.795, 0.792, 0.785) == [0.1] * 5  # 0.785 is 0.015 below 0.8
    assert rates(0.78, 0.9, 0.78) == [0.1, 0.1, 0.01]  # three without a better one
    assert rates(0.9, 0.9) == [0.01, 0.01]  # counted anew
    assert rates(0.9, 0.5, 0.5, 0.5, 0.5) == [0.001, 0.001, 0.001, 0.001, 0.0001]


def test_tests_during_the_warm_up_are_no_plateau():
    recipe = DIGITS.replaced(schedule="plateau", steps=[], plateau_tests=1, warmup_learning_rate=0.01)
    schedule = Schedule(recipe)
    for _ in range(5):
        schedule.tested(0.9)
    schedule.trained(0.1)
    assert schedule.learning_rate(5) == 0.1


def test_a_restored_schedule_goes_on():
    recipe = DIGITS.replaced(schedule="plateau", steps=[], plateau_tests=3, warmup_learning_rate=0.01)
    dice = random.Random(0)
    for _ in range(30):
        events = [(dice.random(), dice.random()) for _ in range(30)]
        cut = dice.randrange(30)
        whole, before, after = Schedule(recipe), Schedule(recipe), Schedule(recipe)
        for trained, tested in events[:cut]:
            for schedule in (whole, before):
                schedule.trained(trained)
                schedule.tested(tested)
        after.restore(before.state())
        for trained, tested in events[cut:]:
            for schedule in (whole, after):
                schedule.trained(trained)
                schedule.tested(tested)
            assert whole.learning_rate(3) == after.learning_rate(3)
