"""`python -m brainseg.export` from end to end: a tiny run, an alias, a file; what it prints, leaves and refuses."""

import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refusal
from keras_archives import REFUSED, keys_of
from numpy.typing import NDArray
from PIL import Image
from trained_run import Trained, record_again

from brainseg.config import RunConfig
from brainseg.config_file import to_yaml
from brainseg.errors import Pruned
from brainseg.export.__main__ import main
from brainseg.tracking import MODEL_FILE, MemoryStore

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"


@pytest.fixture
def store(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """memory-1 the trained run, which `champion` names; memory-2 pruned."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    made = MemoryStore()
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: made)
    record_again(trained, made.open_tracker(run_name="one"), tmp_path)
    made.registered["brainseg@champion"] = "memory-1"
    with pytest.raises(Pruned), made.open_tracker(run_name="pruned"):
        raise Pruned("pruned after epoch 3", epoch=3)
    return made


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_alias_becomes_an_onnx_file_that_the_example_in_the_manual_runs(
    trained: Trained, store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    store.trackers["memory-1"].texts["config.yaml"] = to_yaml(tiny(**{"data.channels": "grey"}))
    assert main(["champion", "--format", "onnx", "-o", "segment.onnx"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    count = len(trained.masks)
    lines = printed.out.splitlines()
    assert lines[:3] == [
        "model       brainseg@champion, run memory-1, at 32x32",
        "format      onnx, float32, batches of any size",
        f"checked on  {count} of {count} validation slices of run memory-1",
    ]
    assert re.fullmatch(
        r"difference  at most \S+ in probability, 0 pixels of a mask \(allowed: 0\.001 and 4\)", lines[3]
    )
    assert re.fullmatch(r"file        segment\.onnx, 0\.\d MB", lines[4])
    assert len(lines) == 5
    assert [path.name for path in Path.cwd().iterdir() if not path.is_dir()] == ["segment.onnx"]

    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    slice_id, mask = max(trained.masks.items(), key=lambda item: item[1].sum())
    Path("slice.png").write_bytes((trained.slices / "images" / f"{slice_id}.png").read_bytes())
    known: dict[str, Any] = {}
    exec(example, known)  # noqa: S102  # the manual's own lines
    assert mask.any()
    assert np.count_nonzero(pixels(Path("mask.png")) != mask * 255) <= 4

    import onnx

    props = {entry.key: entry.value for entry in onnx.load("segment.onnx").metadata_props}
    assert (props["brainseg.run_id"], props["brainseg.image_size"]) == ("memory-1", "32")
    assert props["brainseg.data_fingerprint"] == trained.tracker.tags["data_fingerprint"]


def test_a_run_whose_data_is_gone_is_checked_on_the_phantom_or_on_a_folder(
    trained: Trained, store: MemoryStore, tiny: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("gone").mkdir()
    gone = tiny(**{"data.name": "folder", "data.root": "gone", "data.channels": "grey"})
    store.trackers["memory-1"].texts["config.yaml"] = to_yaml(gone)
    Path("gone").rmdir()
    assert main(["memory-1", "--format", "keras", "--slices", "4"]) == 0
    printed = capsys.readouterr().out
    assert "checked on  4 of " in printed
    assert "slices of phantom\n" in printed
    assert "note        run memory-1: its data gone isn't there; name where it lies now with --data DIR\n" in printed
    assert "file        brainseg-memory-1.keras, " in printed
    assert not keys_of(Path("brainseg-memory-1.keras")) & REFUSED
    # The phantom's own pixels, from a folder: the data that the run was trained on.
    assert main(["memory-1", "--format", "keras", "--data", str(trained.slices), "-o", "other.keras"]) == 0
    assert "validation slices of run memory-1\n" in capsys.readouterr().out


def test_a_file_becomes_a_litert_file(
    trained: Trained, store: MemoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.model.runtime.resolve_threads", lambda threads: 2)
    Path("m.keras").write_bytes(trained.tracker.files[MODEL_FILE])
    assert main(["m.keras", "--format", "litert", "--data", str(trained.slices), "--slices", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "model       m.keras, at 32x32\n" in printed.out
    assert "checked on  3 of " in printed.out
    assert "note" not in printed.out
    assert Path("m.tflite").stat().st_size > 1000


def test_a_file_that_is_not_the_model_is_no_file(
    store: MemoryStore,
    tiny: Callable[..., RunConfig],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("brainseg.export.check.ALLOWED", -1.0)
    store.trackers["memory-1"].texts["config.yaml"] = to_yaml(tiny(**{"data.channels": "grey"}))
    assert main(["memory-1", "--format", "keras"]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert line.startswith("error: the keras file doesn't do what the model does: a probability differs by 0")
    assert line.endswith(". Nothing was written; please report this")
    assert not list(Path.cwd().glob("*.keras"))
    assert not list(Path.cwd().glob(".brainseg-*"))


refused = functools.partial(refusal.refused_here, main)
USAGE = "; python -m brainseg.export --help shows how it is used"
EXISTS = "exists, and is left as it is; name another file with -o FILE"
CASES = [
    ("memory-1", "the following arguments are required: --format" + USAGE),
    ("memory-1 --format pt", "argument --format: invalid choice: 'pt' (choose from onnx, litert, keras)" + USAGE),
    ("memory-1 --format onnx --slices 0", "argument --slices: must be a whole number of at least 1, got 0" + USAGE),
    ("memory-1 --format litert -o x.onnx", "-o x.onnx must end in .tflite for --format litert; name it x.tflite"),
    (
        "memory-1 --format keras -o there.keras",
        "there.keras exists, and is left as it is; name another file with -o FILE",
    ),
    ("memory-1 --format keras", "brainseg-memory-1.keras exists, and is left as it is; name another file with -o FILE"),
    ("there.keras --format keras", "there.keras exists, and is left as it is; name another file with -o FILE"),
    ("memory-1 --format keras -o no/x.keras", "no is not a folder; create it first"),
    ("gone.keras --format onnx", "gone.keras isn't there; name a .keras file, or the id of a run"),
    ("memory-2 --format onnx", "run memory-2 has no model (state: pruned); name a run that was trained to its end"),
    (
        "nobody --format onnx",
        "'nobody' is no run and no alias of a registered model (there are brainseg@champion); "
        "name a run, an alias or a .keras file, or check --root and --uri",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[arguments for arguments, _ in CASES])
def test_what_can_not_be_exported_is_refused(
    arguments: str, message: str, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("there.keras", "brainseg-memory-1.keras"):
        Path(name).write_text("mine")
    assert refused(arguments, capsys).replace("'onnx', 'litert', 'keras'", "onnx, litert, keras") == message
    assert Path("there.keras").read_text() == "mine"


def test_a_package_that_is_missing_is_named_with_the_remedy(
    store: MemoryStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ("tf2onnx", "onnxruntime", "ai_edge_litert")
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in missing else found(name))
    assert refused("memory-1 --format onnx", capsys) == (
        "--format onnx needs onnxruntime, tf2onnx; install with pip install '.[export]' in the clone of brainseg"
    )
    assert refused("memory-1 --format litert", capsys) == (
        "--format litert needs ai-edge-litert; install with pip install '.[export]' in the clone of brainseg"
    )


@pytest.mark.heavy
def test_a_process_refuses_before_tensorflow_starts(tmp_path: Path) -> None:
    code = (
        "import sys; from brainseg.export.__main__ import main; code = main(['gone.keras', '--format', 'onnx']); "
        "print(code, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "2 False False\n"
    assert done.stderr == "error: gone.keras isn't there; name a .keras file, or the id of a run\n"


@pytest.mark.heavy
def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from brainseg.export.__main__ import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--format {onnx,litert,keras}" in done.stdout
    assert not {"tensorflow", "mlflow", "scipy", "numpy"} & set(done.stdout.splitlines()[-1].split())
