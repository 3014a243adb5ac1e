"""The cache of tensor maps: one encoding a geometry, bounded, the same from many threads."""

from __future__ import annotations

import ctypes

import pytest

KEPT = 1024  # kCachedTensorMaps


@pytest.fixture
def ask(fast):
    """ask(...) -> what the cache counted meanwhile: (hits, misses), and what it keeps."""
    library = ctypes.CDLL(fast.module.__file__)
    library.rk_test_tensor_maps.restype = ctypes.c_bool
    library.rk_test_tensor_maps.argtypes = [ctypes.c_bool, *[ctypes.c_uint32] * 3, ctypes.c_void_p]

    def call(walk, first, count, threads=1):
        before, after = ((ctypes.c_uint64 * 3)() for _ in range(2))
        assert library.rk_test_tensor_maps(walk, 0, 0, 0, before)
        assert library.rk_test_tensor_maps(walk, first, count, threads, after), "not what encode gives"
        return after[0] - before[0], after[1] - before[1], after[2]

    call.library = library
    return call


@pytest.mark.parametrize("walk", [False, True])
def test_a_geometry_is_encoded_once(ask, walk):
    first = 100 if not walk else 0
    assert ask(walk, first, 8)[:2] == (0, 8)
    assert ask(walk, first, 8)[:2] == (8, 0)
    assert ask(walk, first + 4, 8)[:2] == (4, 4)


def test_the_cache_is_bounded_and_the_oldest_goes(ask):
    kept = ask(False, 10_000, 3 * KEPT)[2]
    assert kept <= 2 * KEPT  # of both kinds
    assert ask(False, 10_000 + 2 * KEPT, KEPT)[:2] == (KEPT, 0)
    assert ask(False, 10_000, 1)[:2] == (0, 1)


def test_many_threads(ask):
    hits, misses, kept = ask(False, 50_000, KEPT + 100, threads=8)
    assert hits + misses == 8 * (KEPT + 100)
    assert kept <= 2 * KEPT


def test_what_cannot_be_encoded_is_not_kept(ask):
    ask.library.rk_test_tensor_map_refused.restype = ctypes.c_bool
    assert ask.library.rk_test_tensor_map_refused()
