"""resnet-kernels bench tune, as a user types it."""

import pytest

from resnet_kernels import machine


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "alexnet"], "--model: no 'alexnet'"),
        (["--dtype", "float64"], "--dtype: no 'float64'"),
        (["--operation", "sgrad"], "--operation: no 'sgrad'"),
        (["--operation", ","], "--operation is empty"),
        (["--batch", "many"], "--batch must be integers"),
        (["--batch", "0"], "--batch must be at least 1"),
    ],
)
def test_it_says_what_is_wrong(run, arguments, said):
    result = run("bench", "tune", *arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.skipif(machine.why_no_gpu() is None, reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_measure(run, tmp_path):
    result = run("bench", "tune", "--output", str(tmp_path / "a/tuned.json"))
    assert result.exit_code == 2
    assert "bench tune measures on a GPU: " in result.output
    assert not (tmp_path / "a").exists()


@pytest.mark.gpu
def test_a_table_of_this_gpu(run, tmp_path):
    from resnet_kernels import tuning

    path = tmp_path / "tuned.json"
    result = run(
        "bench", "tune", "--quick", "--model", "cifar_resnet20", "--batch", "8", "--output", str(path)
    )
    assert result.exit_code == 0, result.output
    try:
        entries = tuning.load(path)
        assert len(entries) == 14
        assert all(entry.seconds[entry.configuration] == min(entry.seconds.values()) for entry in entries)
    finally:
        tuning.clear()
