"""`python -m brainseg.predict` from end to end: a tiny run, its own validation slices, and images of every kind."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_run import THREADS
from trained_run import Trained

from brainseg.config import ModelConfig
from brainseg.model.models import build_model
from brainseg.model.stock import to_stock
from brainseg.predict.__main__ import main
from brainseg.predict.table import COLUMNS
from brainseg.tracking import MODEL_FILE

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def _here(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: trained.store)


def pixels(path: Path | str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def rows_in(folder: str) -> dict[str, dict[str, str]]:
    """id -> row."""
    with Path(folder, "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def everything_in(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_the_masks_of_validation_slices_are_those_of_the_training(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([trained.run_id, str(trained.slices), "-o", "out", "--probabilities", "16"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert trained.masks
    assert any(mask.any() for mask in trained.masks.values())
    rows = rows_in("out")
    for slice_id, mask in trained.masks.items():
        np.testing.assert_array_equal(pixels(f"out/masks/{slice_id}.png"), mask * 255)
        row = rows[slice_id]
        probability = pixels(f"out/probabilities/{slice_id}.png") / 65535
        assert list(row) == list(COLUMNS)
        assert row["path"] == str(trained.slices / "images" / f"{slice_id}.png")
        assert (row["width"], row["height"], row["error"]) == ("128", "128", "")
        assert int(row["area_px"]) == mask.sum()
        assert float(row["area_fraction"]) == pytest.approx(mask.mean(), abs=1e-6)
        assert float(row["max_probability"]) == pytest.approx(probability.max(), abs=1e-4)
        if mask.any():
            assert float(row["confidence"]) == pytest.approx(probability[mask].mean(), abs=1e-4)
        else:
            assert row["confidence"] == ""
    slices = sorted(path.stem for path in (trained.slices / "images").iterdir())
    assert list(rows) == slices
    kinds = ("masks", "overlays", "probabilities")
    assert everything_in("out") == {"predictions.csv", *(f"{kind}/{name}.png" for kind in kinds for name in slices)}
    found = sum(row["area_px"] != "0" for row in rows.values())
    assert f"model    run {trained.run_id}, at 32x32\n" in printed.out
    assert "masks    no flips, threshold 0.5, nothing removed (the defaults)\n" in printed.out
    assert f"images   {len(slices)} of {len(slices)} predicted, {found} with foreground\n" in printed.out
    assert printed.out.endswith("files    out\n")


def test_a_slice_alone_gives_what_it_gives_among_others(trained: Trained) -> None:
    slice_id, mask = max(trained.masks.items(), key=lambda item: item[1].sum())
    assert main([trained.run_id, str(trained.slices / "images" / f"{slice_id}.png"), "-o", "out"]) == 0
    np.testing.assert_array_equal(pixels(f"out/masks/{slice_id}.png"), mask * 255)


def test_images_that_are_passed_over_are_counted(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    shutil.copy(next((trained.slices / "images").iterdir()), "in/1.png")
    for name in ("2.jp2", "3.jp2", "4.jp2"):
        Path("in", name).touch()
    assert main([trained.run_id, "in", "-o", "out"]) == 0
    printed = capsys.readouterr().out
    assert "note     3 .jp2 files were passed over; convert them to PNG\n" in printed
    assert "images   1 of 1 predicted" in printed


def test_a_keras_file_does_the_same_without_a_run(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.model.runtime.resolve_threads", lambda threads: THREADS)
    Path("m.keras").write_bytes(trained.store.trackers[trained.run_id].files[MODEL_FILE])
    assert main(["m.keras", str(trained.slices), "-o", "out"]) == 0
    for slice_id, mask in trained.masks.items():
        np.testing.assert_array_equal(pixels(f"out/masks/{slice_id}.png"), mask * 255)
    printed = capsys.readouterr().out
    assert "model    m.keras, at 32x32\n" in printed
    assert "note     what it was trained on isn't known, so that unusual images are not pointed out\n" in printed


@pytest.fixture(scope="module")
def other(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same size, as a file."""
    model = build_model(ModelConfig(depth=1, base_filters=2), input_shape=(32, 32, 1), seed=3)
    path = tmp_path_factory.mktemp("other") / "other.keras"
    to_stock(model).save(path)
    return path


def test_the_mean_of_two_models_is_that_of_their_probabilities(
    trained: Trained, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    names = sorted(trained.masks)[:3]
    for name in names:
        shutil.copy(trained.slices / "images" / f"{name}.png", "in")

    def predict(model: str, out: str, *further: str) -> dict[str, NDArray[np.float64]]:
        assert main([model, "in", "-o", out, "--probabilities", "16", *further]) == 0
        return {name: pixels(f"{out}/probabilities/{name}.png") / 65535 for name in names}

    first, second = predict(trained.run_id, "first"), predict(str(other), "second")
    capsys.readouterr()
    mean = predict(trained.run_id, "mean", "--average", str(other), "--threshold", "0.4")
    printed = capsys.readouterr().out
    assert f"model    ensemble of run {trained.run_id}, {other}, at 32x32\n" in printed
    assert "masks    no flips, threshold 0.4, nothing removed (--threshold as given, else the defaults)\n" in printed
    for name in names:
        assert np.abs(first[name] - second[name]).max() > 0.1
        np.testing.assert_allclose(mean[name], (first[name] + second[name]) / 2, atol=2e-5)
        sure = np.abs(mean[name] - 0.4) > 1e-4  # the picture is rounded
        np.testing.assert_array_equal((pixels(f"mean/masks/{name}.png") > 0)[sure], (mean[name] >= 0.4)[sure])
        assert sure.mean() > 0.9


def test_models_of_two_sizes_are_not_averaged(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    to_stock(build_model(ModelConfig(depth=1, base_filters=2), input_shape=(48, 48, 1), seed=3)).save("large.keras")
    assert main([trained.run_id, str(trained.slices), "-o", "out", "--average", "large.keras"]) == 2
    assert capsys.readouterr().err == (
        f"error: run {trained.run_id} works at 32 pixels and large.keras at 48, and only models of one size can be "
        "averaged; leave one out\n"
    )
    assert not Path("out").exists()


def test_images_of_every_kind_are_predicted_and_a_broken_one_is_reported(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    slice_id = max(trained.masks, key=lambda name: trained.masks[name].sum())
    image = pixels(trained.slices / "images" / f"{slice_id}.png")
    for folder in ("in/a", "in/b"):
        Path(folder).mkdir(parents=True)
    Image.fromarray(image).save("in/a/x.png")
    Image.fromarray(image.astype(np.uint16) * 40 + 1000).save("in/b/x.png")  # 16 bits, from the same range
    Image.fromarray(image).convert("RGB").save("in/colour.jpg", quality=95)
    Image.fromarray(image[:, :48]).save("in/narrow.tif")
    Image.new("L", (128, 128), 7).save("in/constant.png")
    Image.fromarray(np.zeros((128, 128), np.uint8)).save("in/a/x_mask.png")
    Path("in/metadata.csv").write_text("id\n")
    whole = Path("in/a/x.png").read_bytes()
    Path("in/cut.png").write_bytes(whole[: len(whole) // 2])

    assert main([trained.run_id, "in", "-o", "out", "--probabilities", "8"]) == 1
    printed = capsys.readouterr()
    rows = rows_in("out")
    assert list(rows) == ["a/x", "b/x", "colour", "constant", "cut", "narrow"]
    (line,) = printed.err.splitlines()
    assert line == f"error: {rows['cut']['error']}"
    assert line.startswith("error: in/cut.png is damaged or cut off (")
    assert {value for key, value in rows["cut"].items() if key not in ("path", "id", "error")} == {""}
    assert "images   5 of 6 predicted, " in printed.out

    sizes = {"a/x": (128, 128), "b/x": (128, 128), "colour": (128, 128), "constant": (128, 128), "narrow": (128, 48)}
    for kind, shape in (("masks", ()), ("overlays", (3,)), ("probabilities", ())):
        for name, size in sizes.items():
            assert pixels(f"out/{kind}/{name}.png").shape == (*size, *shape)
        assert not Path(f"out/{kind}/cut.png").exists()
    np.testing.assert_array_equal(pixels("out/masks/a/x.png"), trained.masks[slice_id] * 255)
    assert rows["constant"]["warnings"] == "every pixel has the same value"
    assert "width/height 0.38 (1.00 in training)" in rows["narrow"]["warnings"]
    assert (
        "warning  2 unlike the images that the model was trained on, so that it may be wrong on them\n" in printed.out
    )
    assert "         in/constant.png: every pixel has the same value\n" in printed.out


def test_options_go_before_what_is_stored(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    strict = ["--threshold", "0.999", "--flip", "none", "--shift", "none", "--min-area", "5"]
    assert main([trained.run_id, str(trained.slices), "-o", "out", *strict]) == 0
    assert "masks    no flips, threshold 0.999, parts below 5 px removed (as given)\n" in capsys.readouterr().out
    assert sum(int(row["area_px"]) for row in rows_in("out").values()) < sum(
        int(mask.sum()) for mask in trained.masks.values()
    )


def test_a_disk_that_is_full_is_one_line_and_what_is_done_stays(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = sorted((trained.slices / "images").iterdir())[-1]

    def full(path: Path, *rest: object) -> None:
        if path.stem == last.stem:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("brainseg.predict.pictures.write_outlined", full)
    count = len(list((trained.slices / "images").iterdir()))
    assert main([trained.run_id, str(trained.slices), "-o", "out"]) == 1
    done = len(rows_in("out"))
    assert done == count - 1
    assert capsys.readouterr().err == (
        f"error: out/overlays/{last.name} can't be written (No space left on device); "
        f"{done} of {count} images are done; make room, and predict into another folder\n"
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from brainseg.predict.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--probabilities BITS" in done.stdout
    assert not {"tensorflow", "mlflow", "scipy", "numpy"} & set(done.stdout.splitlines()[-1].split())
