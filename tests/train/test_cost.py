"""What a training will cost: arithmetic by hand, a measurement, and the two commands that print it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from brainseg.classes import BINARY
from brainseg.config import RunConfig
from brainseg.data.load import load_data
from brainseg.data.split import Split
from brainseg.model.models import build_network
from brainseg.sweep.__main__ import main as sweep
from brainseg.train.__main__ import main as train
from brainseg.train.cost import Cost, measure


def ids(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last))


def test_time_and_disk_are_those_of_all_slices_and_epochs(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(**{"data.channels": "rgb", "train.epochs": 10, "data.image_size": 64})
    cost = Cost(
        config=config,
        slices=1024,
        side_px=(64, 64),
        split=Split(train=ids(0, 20), val=ids(20, 30)),
        parameters=2**18,
        seconds_per_step=2.0,
        seconds_per_val_slice=0.5,
        memory_mib=1500.4,
    )
    assert cost.seconds_per_epoch == 3 * 2.0 + 10 * 0.5  # 20 slices by batches of 8 are 3 steps
    assert cost.seconds == 110.0
    assert cost.cache_mib == 1024 * 64 * 64 * (3 + 1) / 2**20
    assert cost.checkpoint_mib == 4.0  # four copies of 1 MiB
    assert cost.lines() == (
        "time    11 seconds an epoch, 2 minutes for 10; a step takes 2.000 s",
        "memory  1,500 MiB; 262,144 weights",
        "disk    16 MiB of decoded slices; 4 MiB for a checkpoint while it trains",
    )


def test_patches_are_steps_of_their_own_and_the_cache_has_whole_slices(tiny: Callable[..., RunConfig]) -> None:
    cost = Cost(
        config=tiny(**{"data.channels": "grey", "data.patches": 4}),
        slices=2**10,
        side_px=(512, 1024),
        split=Split(train=ids(0, 20), val=()),
        parameters=1,
        seconds_per_step=1.0,
        seconds_per_val_slice=0.0,
        memory_mib=1.0,
    )
    assert cost.seconds_per_epoch == 10.0  # 80 patches by batches of 8
    assert cost.cache_mib == 1024.0


@pytest.mark.heavy
def test_a_measurement_trains_a_network_of_the_configuration(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(**{"data.augment": "none", "train.patience": 1, "train.epochs": 1, "optimizer.warmup_epochs": 1.0})
    data = load_data(config)
    cost = measure(data.config, data.slices.source, data.split, stored_px=(128, 128))
    assert cost.parameters == weights_of(config)
    assert 0 < cost.seconds_per_step < 60
    assert 0 <= cost.seconds_per_val_slice < 60
    assert cost.memory_mib > 100
    assert (cost.slices, cost.side_px) == (len(data.slices.slices), (32, 32))


def weights_of(config: RunConfig) -> int:
    size = config.data.image_size
    network = build_network(config.model, input_shape=(size, size, 1), labels=BINARY, seed=1)
    return int(network.model.count_params())


@pytest.mark.heavy
def test_a_dry_run_prints_what_a_run_costs_and_records_nothing(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        *(
            "data.phantom_patients=8",
            "data.image_size=32",
            "data.batch_size=8",
            "model.depth=2",
            "model.base_filters=4",
        ),
        *("train.epochs=2", "train.precision=float32", "train.threads=2"),
    ]
    monkeypatch.setattr("sys.argv", ["train"])
    assert train(["--dry-run", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "slices to train on" in printed
    assert "time    " in printed
    assert sorted(path.name for path in (tmp_path / "mlruns").iterdir()) == ["cache"]
    assert train(["--dry-run", "-m", *arguments]) == 2
    assert "--multirun and --dry-run can't be used together" in capsys.readouterr().err


@pytest.mark.heavy
def test_a_plan_of_a_study_tells_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brainseg.train.cost.measure", ten_seconds)
    small = ["data.phantom_patients=8", "data.image_size=32", "train.epochs=2"]
    assert sweep(["plan", "quick", "--time", "--trials", "9", "--workers", "3", *small]) == 0
    printed = capsys.readouterr().out
    assert "all 9 trials by 3 workers: 60 seconds without pruning" in printed
    assert not (tmp_path / "mlruns" / "studies").exists()


def ten_seconds(config: RunConfig, source: object, split: Split, *, stored_px: tuple[int, int]) -> Cost:
    """Ten seconds an epoch."""
    return Cost(
        config=config,
        slices=8,
        side_px=(32, 32),
        split=dataclasses.replace(split, train=split.train[:1], val=()),
        parameters=1,
        seconds_per_step=10.0,
        seconds_per_val_slice=0.0,
        memory_mib=1.0,
    )
