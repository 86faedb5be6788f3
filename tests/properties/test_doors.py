"""Whatever comes in from outside is read, or refused in one line, in bounded memory and time."""

import base64
import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import LONG, SHORT, damaged, read_or_refused, try_door
from hypothesis import strategies as st
from PIL import Image

from brainseg.compose import freeze
from brainseg.config import DataConfig, RunConfig
from brainseg.config_file import from_yaml, to_yaml
from brainseg.data.annotations.annotated import Annotations
from brainseg.data.annotations.find import named_annotations
from brainseg.data.annotations.regions import ShapeError
from brainseg.data.decode import decode_image, read_label_file, read_mask_file
from brainseg.data.digests import SliceDigest
from brainseg.data.findings import collect
from brainseg.data.metadata import read_metadata
from brainseg.data.patterns import Pattern
from brainseg.data.split import Split, parse_split
from brainseg.data.training_statistics import PERCENTILES, SliceStatistics, TrainingStatistics, parse_statistics
from brainseg.data.volumes.volume import read_mask_volume
from brainseg.errors import BrainsegError
from brainseg.inference.postprocess import MaskSettings
from brainseg.register.serving import Served, ServedModel
from brainseg.runs.archive import ArchivedRun, read_archive, texts_of
from brainseg.runs.archive_file import write_texts
from brainseg.scoring.predictions import PackedMask, load_predictions, save_predictions
from brainseg.scoring.slice_score import from_csv
from brainseg.sweep.confirm.confirmation import from_json
from brainseg.sweep.study.study_file import read_study
from brainseg.tracking.protocol import RunRecord
from brainseg.tracking.spool.spool import open_spool
from brainseg.tracking.spool.spooled_run import memory_of_spool
from brainseg.train.checkpoint import Checkpoints, RunManifest, TrainingProgress, TrainingState

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
Check = Callable[[Any], None]
Door = tuple[st.SearchStrategy[Any], Callable[[Path], Check]]  # cases, and what checks one, given an empty folder
PICTURE = np.random.default_rng(0).integers(0, 255, (24, 20), np.uint8)
CLASSES = DataConfig(channels="grey", classes={"a": 1, "b": 2})


def picture(kind: str, mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(PICTURE.astype(np.uint16) * 200)
    else:
        image = Image.fromarray(PICTURE).convert(mode)
    image.save(file, format=kind, **options)
    return file.getvalue()


PICTURES = (
    picture("PNG"),
    picture("PNG", "P"),
    picture("PNG", "RGBA"),
    picture("PNG", "I;16"),
    picture("PNG", "1"),
    picture("JPEG"),
    picture("JPEG", "RGB", progressive=True),
    picture("TIFF"),
    picture("TIFF", "I;16", compression="tiff_lzw"),
    picture("TIFF", "RGB", compression="tiff_deflate"),
    picture("BMP", "RGB"),
    picture("GIF", "P"),
    picture("WEBP", "RGB"),
)


def image(_: Path) -> Check:
    def check(content: bytes) -> None:
        read = read_or_refused(lambda: decode_image(content, DataConfig(channels="rgb"), called="image 1"))
        assert read is None or (read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3)

    return check


def mask(folder: Path) -> Check:
    def check(content: bytes) -> None:
        path = written(folder / "mask.png", content)
        for read in (lambda: read_mask_file(path, reading=2), lambda: read_label_file(path, CLASSES)):
            found = read_or_refused(read)
            assert found is None or found.values.ndim == 2

    return check


def volume(folder: Path) -> Check:
    return lambda content: read_or_refused(lambda: read_mask_volume(written(folder / "mask.nii", content)))


def nifti() -> bytes:
    import nibabel

    return bytes(nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4)).to_bytes())


TABLE = "id,patient_id,tumor_type,area_px,predicted_area_px,dice\ns1,P1,glioma,10,12,0.5\ns2,P2,other,3,0,0.0\n"


def metadata(folder: Path) -> Check:
    def check(content: bytes) -> None:
        found = read_or_refused(lambda: read_metadata(written(folder / "metadata.csv", content), ids={"s1", "s2"}))
        for finding in collect(found.problems):
            assert all(text.splitlines() == [text] for text in finding.items)

    return check


COCO = {
    "images": [{"id": 1, "file_name": "images/a.png", "height": 24, "width": 20}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [24, 20], "counts": [0, 9, 471]},
        },
        {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": {"size": [24, 20], "counts": "09f>"}},
    ],
}
LABELME = {
    "version": "5.0",
    "imagePath": "a.png",
    "imageHeight": 24,
    "imageWidth": 20,
    "imageData": None,
    "shapes": [
        {"label": "cell", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]], "flags": {}},
        {"label": "cell", "shape_type": "circle", "points": [[5, 5], [7, 5]], "flags": {}},
        {"label": "cell", "shape_type": "rectangle", "points": [[1, 1], [4, 4]], "flags": {}},
    ],
}


def drawn(found: Annotations, image: str) -> None:
    for shape in found.shapes(image):
        shape.draw(24, 20)


def annotations(name: str, given: str) -> Callable[[Path], Check]:
    def door(folder: Path) -> Check:
        written(folder / "images" / "a.png", PICTURES[0])
        written(folder / "a.png", PICTURES[0])

        def check(content: bytes) -> None:
            written(folder / name, content)
            found = read_or_refused(lambda: named_annotations(folder, given))
            for image in () if found is None else found.images:
                read_or_refused(partial(drawn, found, image), raises=(BrainsegError, ShapeError))

        return check

    return door


def overrides(_: Path) -> Check:
    def check(items: list[str]) -> None:
        read = read_or_refused(lambda: freeze(items))
        assert read is None or isinstance(read, RunConfig)

    return check


KEYS = (
    "model.dropout",
    "data.channels",
    "data.classes",
    "optimizer.learning_rate",
    "train.epochs",
    "data.image_size",
    "model",
    "+model",
    "~model",
    "data.images",
    "tracking.tags",
    "hydra.run.dir",
    "plugins",
    "model.options.x",
)
VALUES = ("0.2", "[1,2]", "{a: 1}", "null", "unet", "'x'", "${seed}", "1e-3", "choice(1,2)", "{id}.png", "")
OVERRIDES = st.lists(
    st.one_of(
        st.builds(lambda key, value: f"{key}={value}", st.sampled_from(KEYS), st.sampled_from(VALUES)),
        st.builds(lambda key, value: f"{key}={value}", st.sampled_from(KEYS), st.text(max_size=12)),
        st.text(max_size=16),
    ),
    max_size=3,
)


def config_file(_: Path) -> Check:
    def check(content: bytes) -> None:
        text = content.decode("utf-8", errors="replace")
        read = read_or_refused(lambda: from_yaml(text, where="config.yaml"))
        assert read is None or isinstance(read, RunConfig)

    return check


def study(folder: Path) -> Check:
    return lambda content: read_or_refused(lambda: read_study(str(written(folder / "study.yaml", content))))


def predictions(folder: Path) -> Check:
    path = folder / "predictions.npz"
    return lambda content: read_or_refused(lambda: load_predictions(written(path, content)), raises=REFUSED)


REFUSED = (BrainsegError, ValueError)


def prediction_file(folder: Path) -> bytes:
    masks = {"s1": PICTURE > 100, "s2": PICTURE > 200}
    save_predictions(folder / "p.npz", {name: PackedMask.of(mask[..., np.newaxis]) for name, mask in masks.items()})
    return (folder / "p.npz").read_bytes()


def scores(_: Path) -> Check:
    def check(content: bytes) -> None:
        text = content.decode("utf-8", errors="replace")
        found = read_or_refused(lambda: from_csv(text), raises=REFUSED)
        assert found is None or found

    return check


def checkpoint(name: str) -> Callable[[Path], Check]:
    def door(folder: Path) -> Check:
        checkpoints, path = Checkpoints(folder, "run"), folder / "checkpoints" / "run" / name
        begin(checkpoints)

        def check(content: bytes) -> None:
            written(path, content)
            read_or_refused(checkpoints.manifest)
            read_or_refused(checkpoints.stored_config)
            read_or_refused(checkpoints.load)

        return check

    return door


def begin(checkpoints: Checkpoints) -> None:
    split = Split(train=("s1",), val=("s2",)).to_json()
    checkpoints.begin(
        RunManifest(
            config_yaml=to_yaml(RunConfig()), data_fingerprint="0", split_json=split, precision="float32", threads=1
        )
    )
    progress = TrainingProgress(epoch=2, history=({"val_dice_image": 0.5},), best_epoch=1, best_score=0.5)
    arrays = [np.ones((3, 3), np.float32), np.zeros(2, np.float32)]
    checkpoints.save(TrainingState(progress=progress, variables=arrays, best=arrays[:1]))


def checkpoint_file(folder: Path, name: str) -> bytes:
    begin(Checkpoints(folder, "run"))
    return (folder / "checkpoints" / "run" / name).read_bytes()


SPOOL = (
    {"kind": "open", "is_new": True, "experiment": "brainseg", "name": "first", "tags": {"state": "running"}},
    {"kind": "begin", "tags": {"attempt": "1"}},
    {"kind": "params", "params": {"seed": "0"}},
    {"kind": "metrics", "epoch": 1, "metrics": {"val_dice": 0.5}, "time_ms": 1},
    {"kind": "file", "folder": "", "name": "a.txt", "file": "files/4/a.txt"},
    {"kind": "end", "status": "FINISHED", "state": "finished", "failure": None, "time_ms": 2},
)


def spool(folder: Path) -> Check:
    run, beside = folder / "spool" / "local-0", written(folder / "spool" / "files" / "secret", b"1")
    written(run / "delivered", b"0")

    def check(content: bytes) -> None:
        written(run / "records.jsonl", content)
        written(run / "files" / "4" / "a.txt", b"1")
        read_or_refused(lambda: memory_of_spool(run.parent, "local-0"), raises=(BrainsegError, FileNotFoundError))
        with contextlib.suppress(BrainsegError), open_spool(run.parent, "local-0") as opened:
            while record := opened.next():
                opened.advance(record)
        written(run / "delivered", b"0")
        assert beside.exists()

    return check


def split(_: Path) -> Check:
    def check(content: bytes) -> None:
        read_or_refused(lambda: parse_split(content, where="split.json", remedy="make another"))

    return check


def statistics(_: Path) -> Check:
    def check(content: bytes) -> None:
        text = content.decode("utf-8", errors="replace")
        read_or_refused(lambda: parse_statistics(text, where="statistics.json"))

    return check


def confirmation(_: Path) -> Check:
    return lambda content: from_json(content.decode("utf-8", errors="replace"))


def archive(folder: Path) -> Check:
    return lambda content: read_or_refused(lambda: read_archive(written(folder / "study.zip", content)))


def archive_file(folder: Path) -> bytes:
    record = RunRecord(
        run_id="r1",
        name="first",
        status="FINISHED",
        params={"seed": "0"},
        tags={},
        metrics={"loss": {1: 0.5}},
        dataset=None,
    )
    digests = [SliceDigest(id="s1", patient_id="P1", image="0" * 64, mask="1" * 64)]
    run = ArchivedRun(record=record, texts={"config.yaml": to_yaml(RunConfig())})
    write_texts(folder / "study.zip", texts_of(["quick"], [run], digests, is_anonymous=False))
    return (folder / "study.zip").read_bytes()


def requests(_: Path) -> Check:
    import keras

    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    data = DataConfig(image_size=8, channels="grey")
    model = ServedModel(
        Served(run_id="r1", data=data, threads=1, settings=MaskSettings()), keras.Sequential(layers), None
    )

    def check(rows: list[Any]) -> None:
        answers = model.predict({"image": rows})
        assert len(answers) == len(rows)
        assert all((answer["mask"] is None) != (answer["error"] is None) for answer in answers)

    return check


def pattern(_: Path) -> Check:
    def check(case: tuple[str, str]) -> None:
        text, path = case
        data = read_or_refused(lambda: dataclasses.replace(DataConfig(), name="folder", images=text, masks=text))
        if data is not None:
            Pattern(text, data).fit(path)

    return check


PARTS = st.sampled_from(("{id}", "{patient}", "*", "/", "images", ".png", "a", "_", "1", "{channel}", ".*", "("))
PATTERNS = st.tuples(
    st.lists(PARTS, max_size=8).map("".join), st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=40).map("".join))
)


ROWS = st.lists(
    st.one_of(
        st.none(),
        st.floats(),
        st.text(max_size=30),
        st.one_of([damaged(content) for content in PICTURES]).map(lambda content: base64.b64encode(content).decode()),
    ),
    min_size=1,
    max_size=3,
)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def any_of(*contents: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of([damaged(content) for content in contents])


STATISTICS = TrainingStatistics(
    slices=3, measures={name: (1.0,) * len(PERCENTILES) for name in SliceStatistics.__dataclass_fields__}
)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    folder = tmp_path_factory.mktemp("valid")
    studies = [path.read_bytes() for path in sorted((ROOT / "sweeps").glob("*.yaml"))]
    return {
        "images": (any_of(*PICTURES), image),
        "masks": (any_of(*PICTURES), mask),
        "volumes": (any_of(nifti()), volume),
        "metadata": (any_of(TABLE.encode()), metadata),
        "COCO": (any_of(json.dumps(COCO).encode()), annotations("coco.json", "coco.json")),
        "LabelMe": (any_of(json.dumps(LABELME).encode()), annotations("a.json", "labelme")),
        "overrides": (OVERRIDES, overrides),
        "configuration": (any_of(to_yaml(RunConfig()).encode()), config_file),
        "studies": (any_of(*studies), study),
        "predictions": (any_of(prediction_file(folder)), predictions),
        "scores": (any_of(TABLE.encode()), scores),
        "manifests": (any_of(checkpoint_file(folder, "run.json")), checkpoint("run.json")),
        "checkpoints": (any_of(checkpoint_file(folder, "last.npz")), checkpoint("last.npz")),
        "spools": (any_of("".join(f"{json.dumps(line)}\n" for line in SPOOL).encode()), spool),
        "splits": (any_of(Split(train=("s1", "s2"), val=("s3",)).to_json().encode()), split),
        "statistics": (any_of(STATISTICS.to_json().encode()), statistics),
        "confirmations": (
            any_of(json.dumps({"schema_version": 1, "configurations": [], "seeds": []}).encode()),
            confirmation,
        ),
        "archives": (any_of(archive_file(folder)), archive),
        "requests": (ROWS, requests),
        "patterns": (PATTERNS, pattern),
    }


DOORS = (
    *("images", "masks", "volumes", "metadata", "COCO", "LabelMe", "overrides", "configuration", "studies"),
    *(
        "predictions",
        "scores",
        "manifests",
        "checkpoints",
        "spools",
        "splits",
        "statistics",
        "confirmations",
        "archives",
        "requests",
        "patterns",
    ),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # what a case makes in the working folder goes with it
    return


@pytest.mark.parametrize("name", DOORS)
def test_what_comes_in_is_read_or_refused_in_one_line(name: str, doors: dict[str, Door], tmp_path: Path) -> None:
    cases, door = doors[name]
    try_door(cases, door(tmp_path), examples=SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", DOORS)
def test_what_comes_in_is_read_or_refused_in_one_line_2000_times(
    name: str, doors: dict[str, Door], tmp_path: Path
) -> None:
    cases, door = doors[name]
    try_door(cases, door(tmp_path), examples=LONG)
