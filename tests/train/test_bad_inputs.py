"""What a user can get wrong: each is one line that says so, exit code 2, and nothing left behind."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg.compose import freeze
from brainseg.config_file import to_yaml
from brainseg.data.__main__ import main as data_main
from brainseg.tracking.__main__ import main as tracking_main
from brainseg.train import __main__ as train
from brainseg.train.checkpoint import Checkpoints, RunManifest

# The tables below: arguments of the command, and the whole of stderr after `error: `. CWD is the
# working folder.

UNKNOWN = [
    ("model.dropot=0.1", "model.dropot is not a configuration key; did you mean 'model.dropout'?"),
    ("modle.dropout=0.1", "modle.dropout is not a configuration key; did you mean 'model.dropout'?"),
    (
        "launcher=slurm",
        "launcher is no key of a run: it starts the workers of a sweep; python -m brainseg.sweep run NAME launcher=...",
    ),
    ("dropout=0.2", "dropout is not a configuration key; did you mean 'model.dropout'?"),
    (
        "model.zzz=1",
        "model.zzz is not a configuration key; model has name, depth, base_filters, stem, standardize, "
        "dropout, norm, foreground_prior, encoder, decoder_filters, weights",
    ),
    ("zzz=1", "zzz is not a configuration key; --help lists them"),
    ("+zzz=1", "zzz is not a configuration key; --help lists them"),
    ("++model.dropot=1", "model.dropot is not a configuration key; did you mean 'model.dropout'?"),
    ("~zzz", "zzz is not a configuration key; --help lists them"),
    ("modl=unet", "modl is not a configuration key; did you mean 'model'?"),
    ("model=unett", "model must be one of encoder_unet, unet, got 'unett'; did you mean 'unet'?"),
    ("model=3", "model must be one of encoder_unet, unet, got '3'"),
    ("model={a: 1}", "model must be one of encoder_unet, unet, got '{a:1}'"),
    ("data=null", "data must be one of folder, nifti, phantom, got 'null'"),
    ("data=", "data must be one of folder, nifti, phantom, got ''"),
    (
        "experiment=refrence",
        "experiment must be one of best, reference, scratch, got 'refrence'; did you mean 'reference'?",
    ),
    (
        "model.name=resnet",
        "model.name must be one of unet, encoder_unet, got 'resnet'; did you mean 'unet'? "
        "(a part of a plugin needs plugins=[MODULE])",
    ),
    ("model.stem=3", "model.stem must be one of 1, 2, 4, got 3"),
    (
        "train.loss=dise",
        "train.loss must be one of dice, dice_image, ce, focal, tversky, focal_tversky, bce_dice, bce_dice_image, "
        "got 'dise'; did you mean 'dice'? (a part of a plugin needs plugins=[MODULE])",
    ),
    ("data.split_by=person", "data.split_by must be one of image, patient, folder, got 'person'"),
]
FORM = [
    ("model.dropout", "model.dropout is not of the form key=value; write model.dropout=VALUE"),
    ("=5", "'=5' has no key; write key=value, such as model.dropout=0.2"),
    ("model.dropout=[1", "model.dropout=[1 can't be read as key=value; quote special characters: 'key=\"value\"'"),
    ("+model.dropout=0.5", "+model.dropout would add a key that is there already; leave out the +"),
    ("~model.dropout", "~model.dropout would remove a key, and a run has them all; write model.dropout=VALUE"),
    ("model.dropout=0.1,0.2", "model.dropout=0.1,0.2 gives several values; add -m for a run of each"),
    (
        "run_name=a,b",
        "run_name=a,b gives several values; add -m for a run of each, "
        "or quote a text that has a comma: 'run_name=\"a, b\"'",
    ),
    (
        "model.dropout=${nowhere}",
        "model.dropout refers to what doesn't exist (Interpolation key 'nowhere' not found); write its value",
    ),
    (
        "data=folder data.root=d data.phantom_seed=3",
        "data.phantom_seed has no use with the chosen data; leave it out, or choose another data",
    ),
    ("--epochs=3", "--epochs=3 is no flag; a key is written without dashes: train.epochs=3 (--help lists them)"),
    ("--config-name=mine", "--config-name is not used here; put your own files into ./conf"),
    ("--cfg=everything", "--cfg/-c can't be used so; --hydra-help lists the flags"),
]
TYPES = [
    ("model.dropout=much", "model.dropout must be a number, got 'much'"),
    ("model.dropout=", "model.dropout must be a number, got ''"),
    ("model.dropout=[0.1]", "model.dropout must be a number, got '[0.1]'"),
    ("model.dropout=true", "model.dropout must be a number, got 'True'"),
    ("model.dropout=null", "model.dropout must be a number, got null; leave it out for the default"),
    ("train.epochs=1.5", "train.epochs must be a whole number, got '1.5'"),
    ("train.epochs=null", "train.epochs must be a whole number, got null; leave it out for the default"),
    ("tracking.offline=maybe", "tracking.offline must be true or false, got 'maybe'"),
    ("tracking.offline=5", "tracking.offline must be true or false, got '5'"),
    ("tracking.root=null", "tracking.root must be a text, got null; leave it out for the default"),
    ("run_name=[a]", "run_name must be a text, got \"['a']\""),
]
RANGES = [
    ("seed=-1", "seed must be between 0 and 2147483647, got -1"),
    ("data.image_size=9999", "data.image_size must be between 8 and 4096, got 9999"),
    ("data.image_size=100", "data.image_size must be divisible by 2**model.depth = 32, got 100; try 96"),
    ("data.val_fraction=1.0", "data.val_fraction must be between 0.0 and 1.0, both excluded, got 1.0"),
    ("data.batch_size=0", "data.batch_size must be between 1 and 4096, got 0"),
    ("data.limit=1", "data.limit must be at least 2, got 1"),
    (
        "model.stem=2",
        "data.image_size must be divisible by model.stem * 2**model.depth = 64, got 96; try 128",
    ),
    (
        "optimizer.encoder_rate=0.1",
        "optimizer.encoder_rate is for an encoder, got model.name=unet; add model=encoder_unet",
    ),
    ("model.weights=imagenet", "model.weights=imagenet is for an encoder, got model.name=unet; add model=encoder_unet"),
    ("train.ema_decay=1", "train.ema_decay must be at least 0 and below 1, got 1.0; try 0.99"),
    ("train.deep_supervision=2", "train.deep_supervision must be between 0.0 and 1.0, got 2.0"),
    (
        "model.depth=1 train.deep_supervision=0.25",
        "train.deep_supervision needs coarser levels, got model.depth=1; "
        "use train.deep_supervision=0 or a depth of at least 2",
    ),
    ("model.depth=9", "model.depth must be between 1 and 8, got 9"),
    ("model.dropout=-0.1", "model.dropout must be between 0.0 and 0.9, got -0.1"),
    ("optimizer.learning_rate=0", "optimizer.learning_rate must be between 0.0 and 10.0, both excluded, got 0.0"),
    ("optimizer.learning_rate=nan", "optimizer.learning_rate must be between 0.0 and 10.0, both excluded, got nan"),
    ("optimizer.learning_rate=inf", "optimizer.learning_rate must be between 0.0 and 10.0, both excluded, got inf"),
    (
        "optimizer.warmup_epochs=40",
        "optimizer.warmup_epochs must be at most train.epochs = 24, got 40.0; try optimizer.warmup_epochs=0",
    ),
    ("train.epochs=0", "train.epochs must be between 1 and 100000, got 0"),
    ("train.threads=0", "train.threads must be between 1 and 1024, got 0"),
    ("train.threads=5000", "train.threads must be between 1 and 1024, got 5000"),
    ("tracking.predictions=101", "tracking.predictions must be between 0 and 100, got 101"),
    ("tracking.experiment=", "tracking.experiment must not be empty; leave it out for the default"),
]
TOGETHER = [
    (
        "data=folder",
        "data.root must name a folder of images and masks for data.name=folder; add data.root=DIR",
    ),
    (
        "experiment=reference",
        "data.root must name a folder of images and masks for data.name=folder; add data.root=DIR",
    ),
    (
        "data.root=slices",
        "data.root is not used by data.name=phantom, got 'slices'; add data=folder to train on that folder",
    ),
    (
        "optimizer=adam optimizer.weight_decay=0.1",
        "optimizer.weight_decay must be 0 for optimizer.name=adam, got 0.1; "
        "use optimizer=adamw for decoupled weight decay",
    ),
    ("data.fold=0", "data.fold needs data.folds, got data.fold=0 alone; add data.folds=5"),
    ("data.folds=5", "data.folds needs data.fold, got data.folds=5 alone; add data.fold=0"),
    ("data.folds=5 data.fold=5", "data.fold must be between 0 and 4, got 5"),
    (
        "data.folds=5 data.fold=0 data.test_fraction=0.1",
        "data.test_fraction must be 0 with data.folds, since the fold is the test part, got 0.1; leave one of them out",
    ),
    (
        "data.val_fraction=0.6 data.test_fraction=0.5",
        "data.val_fraction + data.test_fraction must be below 1, got 0.6 + 0.5; leave slices to train on",
    ),
    ("-m model.dropout=0.1,5", "model.dropout must be between 0.0 and 0.9, got 5.0"),
    ("-m model.dropout=0.1,much", "model.dropout must be a number, got 'much'"),
    ("seed=1 -m model.dropout=0.1,5", "model.dropout must be between 0.0 and 0.9, got 5.0"),
    ("--cfg job model.dropout=3", "model.dropout must be between 0.0 and 0.9, got 3.0"),
]
RUN_IDS = [
    (
        f"resume={run_id}",
        f"resume must be the id of a run (letters, digits, - and _), got '{run_id}'; "
        "copy the id that the run printed at its start",
    )
    for run_id in ("../../x", "..", "/etc", "")
]
STORES = [
    ("tracking.root=a-file", "tracking.root must be a folder, got the file CWD/a-file; choose another"),
    ("tracking.root=a-file/runs", "tracking.root must be a folder, got the file CWD/a-file; choose another"),
    (
        "tracking.root=/proc/brainseg",
        "tracking.root must be a folder that can be written to, got /proc/brainseg (No such file or directory); "
        "choose another with tracking.root=DIR",
    ),
    (
        "data.cache_dir=/proc/brainseg",
        "the cache of decoded slices can't be written to /proc/brainseg (No such file or directory); "
        "make room there, or set data.cache_dir to another folder",
    ),
    (
        "tracking.uri=ftp://x",
        "tracking.uri must start with one of sqlite://, http://, https://, postgresql://, mysql://, mssql://, "
        "got 'ftp://x'; leave it out for sqlite:///CWD/mlruns/mlflow.db",
    ),
    (
        "tracking.uri=sqlite://",
        "tracking.uri must name an SQLite file, got 'sqlite://'; write sqlite:///FOLDER/mlflow.db",
    ),
    (
        "tracking.uri=http://127.0.0.1:9",
        "the tracking store http://127.0.0.1:9 can't be reached (Connection refused); "
        "start it, or set tracking.offline=true to record now and deliver later",
    ),
]
SPLITS = [
    ("data.split_file=none.json", "data.split_file none.json can't be read (No such file or directory)"),
    ("data.split_file=a-file", "data.split_file a-file is not JSON"),
    ("data.split_file=a-picture", "data.split_file a-picture is not JSON"),
    ("data.split_file=newer.json", "data.split_file newer.json is no split of schema_version 1"),
]
SPLIT_REMEDY = "; use the split.json of a run"
LAYOUT = "images/7.png with masks/7.png, or PATIENT/7.tif with PATIENT/7_mask.tif"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder from which nothing can be trained."""

    def refuse() -> None:
        raise AssertionError("the bad input got as far as TensorFlow")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["brainseg"])  # which the command changes
    monkeypatch.setattr("brainseg.model.runtime.import_tensorflow", refuse)
    return tmp_path


def tree(folder: Path) -> list[tuple[str, int]]:
    """Every path below the folder, with its size in bytes (0 for folders)."""
    return sorted((str(path.relative_to(folder)), path.is_file() and path.stat().st_size) for path in folder.rglob("*"))


def assert_refused(
    command: Callable[[list[str]], object],
    arguments: Sequence[str],
    message: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs the command; exit code 2, this one line on stderr, nothing on stdout, nothing new on disk."""
    before = tree(here)
    try:
        code = command(list(arguments))
    except SystemExit as left:
        code = left.code
    printed = capsys.readouterr()
    assert printed.err == f"error: {message.replace('CWD', str(here))}\n"
    assert (code, printed.out) == (2, "")
    assert tree(here) == before


def write_pairs(folder: Path) -> Path:
    """Six slices of three patients, 16x16."""
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[4:8, 4:8] = 255
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(pixels).save(folder / part / f"{number}.png")
    write_metadata(folder)
    return folder


def write_metadata(folder: Path, *more: str, header: str = "id,patient_id") -> None:
    rows = [header, *(f"{number},p{number // 2}" for number in range(6)), *more]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def write_bomb(path: Path) -> None:
    """A PNG of a few hundred bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


CONFIGURATIONS = [*UNKNOWN, *FORM, *TYPES, *RANGES, *TOGETHER, *RUN_IDS]


@pytest.mark.parametrize(("arguments", "message"), CONFIGURATIONS, ids=[line for line, _ in CONFIGURATIONS])
def test_a_configuration_that_cannot_be_is_refused(
    arguments: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A value with spaces is one argument; elsewhere spaces part arguments.
    words = [arguments] if "{" in arguments else arguments.split()
    assert_refused(train.main, words, message, here, capsys)


# What was done to a good folder, and what is said of it.
FOLDERS: list[tuple[str, Callable[[Path], object], str]] = [
    ("no mask", lambda d: (d / "masks/3.png").unlink(), "d: 1 image(s) without a mask, first: images/3.png; "
     "add the mask, or remove the image"),
    ("no image", lambda d: (d / "images/3.png").unlink(), "d: 1 mask(s) without an image, first: masks/3.png; "
     "add the image, or remove the mask"),
    ("size mismatch", lambda d: Image.new("L", (16, 8)).save(d / "masks/3.png"),
     "d/masks/3.png must have the size of images/3.png, 16x16, got 16x8; export both at one size"),
    ("truncated", lambda d: truncate(d / "images/3.png"),
     "d/images/3.png is damaged or cut off (image file is truncated); copy or export it again"),
    ("text", lambda d: (d / "images/3.png").write_text("a text"),
     "d/images/3.png is not a PNG, JPEG, TIFF, BMP, GIF or WebP image; export it as PNG"),
    ("empty file", lambda d: (d / "images/3.png").write_bytes(b""),
     "d/images/3.png is empty (0 bytes); copy or export it again"),
    ("bomb", lambda d: write_bomb(d / "images/3.png"),
     "d/images/3.png has more than 150994944 pixels; if it is a slice, export it at 12288x12288 or less"),
    ("unknown id", lambda d: write_metadata(d, "99,p9"), "d: 1 metadata row(s) without a slice, first: 99; "
     "remove the row; an id is a file's name without its extension"),
    ("duplicated id", lambda d: write_metadata(d, "5,p2"),
     "d: 1 id(s) with several metadata rows, first: 5; keep one row a slice in metadata.csv"),
    ("no id column", lambda d: write_metadata(d, header="slice,patient_id"),
     "d: 1 problem(s) in the metadata table, first: metadata.csv: the header has no column 'id', only: "
     "slice, patient_id; rename 'slice' to 'id'; correct metadata.csv or remove it"),
    ("no patient ids", lambda d: (d / "metadata.csv").unlink(),
     "data.split_by=patient needs 'patient_id' for every slice, and slice 0 has none; "
     "add it to metadata.csv, or use data.split_by=image"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS])
def test_a_folder_that_cannot_be_trained_on_is_refused(
    spoil: Callable[[Path], object], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(write_pairs(here / "d"))
    arguments = ["data=folder", "data.root=d", "data.image_size=32"]
    assert_refused(train.main, arguments, message, here, capsys)


def test_a_multirun_stops_at_the_first_job_that_cannot_start(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truncate(write_pairs(here / "d") / "images/3.png")
    message = "d/images/3.png is damaged or cut off (image file is truncated); copy or export it again"
    assert_refused(train.main, ["data=folder", "data.root=d", "-m", "seed=1,2"], message, here, capsys)


@pytest.mark.parametrize("root", ["nowhere", "a-file", "empty", "half"])
def test_a_folder_without_pairs_is_refused_by_every_command(
    root: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a-file").write_text("a text")
    (here / "empty").mkdir()
    (here / "half" / "images").mkdir(parents=True)
    message = {
        "nowhere": f"nowhere doesn't exist; name a folder that holds {LAYOUT}",
        "a-file": f"a-file is a file; name a folder that holds {LAYOUT}",
        "empty": f"empty holds neither {LAYOUT}",
        "half": f"half holds neither {LAYOUT}; it has images/ but no masks/",
    }[root]
    assert_refused(train.main, ["data=folder", f"data.root={root}"], message, here, capsys)
    assert_refused(data_main, ["verify", root], message, here, capsys)
    assert_refused(data_main, ["preview", root], message, here, capsys)


@pytest.mark.parametrize(("override", "message"), STORES, ids=[override for override, _ in STORES])
def test_a_store_that_cannot_be_used_is_refused(
    override: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a-file").write_text("a text")
    write_pairs(here / "d")
    assert_refused(train.main, ["data=folder", "data.root=d", override], message, here, capsys)


@pytest.mark.parametrize(("override", "message"), SPLITS, ids=[override for override, _ in SPLITS])
def test_a_split_file_that_is_none_is_refused(
    override: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a-file").write_text("a text")
    (here / "a-picture").write_bytes(b"\x89PNG\xff")
    (here / "newer.json").write_text('{"schema_version": 99, "train": [], "val": []}')
    assert_refused(train.main, [override], message + SPLIT_REMEDY, here, capsys)


def test_a_split_of_other_slices_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other.json").write_text(json.dumps({"schema_version": 1, "train": ["a"], "val": ["b"]}))
    message = (
        "data.split_file other.json names slice a, which the data doesn't have (2 in all); use a split of this data set"
    )
    assert_refused(train.main, ["data.split_file=other.json"], message, here, capsys)


def test_too_few_patients_for_a_part_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(here / "d")
    message = (
        "data.val_fraction=0.01 and data.test_fraction=0.0 leave no slices for val of 3 patients; "
        "use more patients or other fractions"
    )
    assert_refused(train.main, ["data=folder", "data.root=d", "data.val_fraction=0.01"], message, here, capsys)


def test_a_run_that_left_no_checkpoint_cannot_be_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = (
        "resume=abc: there is no checkpoint of this run in mlruns/checkpoints; "
        "check the id and tracking.root (finished runs keep no checkpoint)"
    )
    assert_refused(train.main, ["resume=abc"], message, here, capsys)


def test_a_resume_cannot_change_what_is_trained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = RunManifest(
        config_yaml=to_yaml(freeze([])), data_fingerprint="0", split_json="{}", precision="float32", threads=2
    )
    Checkpoints(here / "mlruns", "abc").begin(manifest)
    message = (
        "train.loss can't change on a resume: the run has 'bce_dice', got 'dice'; only train.epochs and "
        "train.patience may; leave it out, or start a new run without resume"
    )
    assert_refused(train.main, ["resume=abc", "train.loss=dice", "train.epochs=40"], message, here, capsys)


DATA_COMMANDS = [
    ("import figshare nowhere out", "nowhere doesn't exist; name a folder with .mat or .zip files, or one .zip file"),
    (
        "import figshare empty out",
        "empty holds no .mat file and no .zip archive with one; name the folder of the download",
    ),
    ("import figshare d d", "CWD/d must be a new or an empty folder, but something is there; name another one"),
    ("preview d -o nowhere/sheet.png", "nowhere is not a folder; create it first"),
    ("preview d -o a-file", "a-file exists; name another file with -o FILE, or replace it with --force"),
    ("phantom d", "d must be a new or an empty folder, but something is there; name another one"),
]


@pytest.mark.parametrize(("arguments", "message"), DATA_COMMANDS, ids=[line for line, _ in DATA_COMMANDS])
def test_a_wrong_path_is_refused_by_the_data_command(
    arguments: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a-file").write_text("a text")
    (here / "empty").mkdir()
    write_pairs(here / "d")
    assert_refused(data_main, arguments.split(), message, here, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sync", "--root", "a-file"], "CWD/a-file is a file, not a folder of runs; name the folder with --root DIR"),
        (["clean", "unknown"], "run unknown has no checkpoints in CWD/mlruns/checkpoints; check the id and --root"),
    ],
)
def test_a_wrong_folder_or_run_is_refused_by_the_tracking_command(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a-file").write_text("a text")
    assert_refused(tracking_main, arguments, message, here, capsys)


def test_a_store_of_an_unknown_kind_is_refused_by_the_tracking_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = (
        "tracking.uri must start with one of sqlite://, http://, https://, postgresql://, mysql://, mssql://, "
        "got 'ftp://x'; leave it out for sqlite:///CWD/mlruns/mlflow.db"
    )
    assert_refused(tracking_main, ["sync", "--uri", "ftp://x"], message, here, capsys)


@pytest.mark.parametrize("command", [data_main, tracking_main])
@pytest.mark.parametrize("arguments", [[], ["nothing"], ["--nothing"]])
def test_an_unknown_subcommand_is_one_line(
    command: Callable[[list[str]], int], arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        command(arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("--help shows how it is used")
    assert tree(here) == []


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["model.dropot=1"], "model.dropot is not a configuration key; did you mean 'model.dropout'?"),
        ("train", ["data=folder", "data.root=nowhere"], f"nowhere doesn't exist; name a folder that holds {LAYOUT}"),
        ("data", ["verify", "nowhere"], f"nowhere doesn't exist; name a folder that holds {LAYOUT}"),
    ],
    ids=["train key", "train data", "data"],
)
def test_a_process_says_one_line_and_leaves_nothing(
    module: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-m", f"brainseg.{module}", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert tree(tmp_path) == []


@pytest.mark.parametrize("text", ["model:\n  depth: 2\n", "defaults:\n  - override /data: phantom\n"])
def test_an_experiment_without_its_first_line_is_refused(
    text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text(text)
    message = "the file of an experiment must begin with the line '# @package _global_'; add it in conf/experiment"
    assert_refused(train.main, ["experiment=mine"], message, here, capsys)


def test_a_key_that_a_file_misspells_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nmodel:\n  dept: 2\n")
    message = "conf/experiment/mine.yaml: model.dept is not a configuration key; did you mean 'model.depth'?"
    assert_refused(train.main, ["experiment=mine"], message, here, capsys)


def test_a_value_out_of_range_is_said_to_come_from_its_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nmodel:\n  dropout: 2.0\n")
    message = "conf/experiment/mine.yaml: model.dropout must be between 0.0 and 0.9, got 2.0"
    assert_refused(train.main, ["experiment=mine"], message, here, capsys)
    typed = message.removeprefix("conf/experiment/mine.yaml: ")
    assert_refused(train.main, ["experiment=mine", "model.dropout=2.0"], typed, here, capsys)


def test_a_file_that_is_not_yaml_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "conf" / "experiment").mkdir(parents=True)
    (here / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nmodel: [1\n")
    message = "conf/experiment/mine.yaml is not YAML (line 3: expected ',' or ']', but got '<stream end>'); correct it"
    assert_refused(train.main, ["experiment=mine"], message, here, capsys)


def test_every_group_has_a_value_out_of_range() -> None:
    groups = {line.partition("=")[0].partition(".")[0] for line, _ in RANGES}
    assert groups == {"seed", "data", "model", "optimizer", "train", "tracking"}
