"""A registered version behind MLflow's scoring server, over HTTP: the manual's own command gives predict's own mask."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import MlflowBackend
from numpy.typing import NDArray
from PIL import Image
from processes import environment
from trained_run import Trained, record_again

from brainseg.config import TrackingConfig
from brainseg.predict import __main__ as predict
from brainseg.register import __main__ as register
from brainseg.serve import __main__ as serve
from brainseg.tracking.paths import resolve_uri

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).parents[2] / "docs" / "registering.md"
SHOWN = "http://127.0.0.1:5001"  # in the manual
START_S = 300.0  # about 10 on a machine that does nothing else


@dataclass(frozen=True)
class Registered:
    """The trained run, registered in an SQLite file as `models:/brainseg@served`."""

    config: TrackingConfig
    folder: Path

    @property
    def uri(self) -> str:
        return resolve_uri(self.config)


@pytest.fixture(scope="module")
def registered(trained: Trained, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("registered")
        config = TrackingConfig(root=str(folder / "runs"))
        (folder / "runs").mkdir()
        (folder / "runs" / "mlflow.db").write_bytes(empty_store.read_bytes())
        run_id = record_again(trained, MlflowBackend(config=config).open(), folder)
        assert register.main([run_id, "--name", "brainseg", "--alias", "served", "--root", config.root]) == 0
        yield Registered(config=config, folder=folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(registered: Registered) -> Iterator[str]:
    """MLflow's scoring server with the version, in a thread of this process: TensorFlow is there already."""
    import mlflow.pyfunc
    import uvicorn
    from mlflow.pyfunc import scoring_server

    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registered.uri)
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")  # restored afterwards: the server sets it
        app = scoring_server.init(mlflow.pyfunc.load_model("models:/brainseg@served"))
        sys.path[:] = path
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            wait_for(port, lambda: thread.is_alive())
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(30)


def wait_for(port: int, is_alive: Any) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 5)):
            return
        assert is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def shown_command(*, address: str) -> str:
    """The command of the manual that sends slice.png and writes mask.png, to this address."""
    (block,) = [
        block
        for block in re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        if SHOWN in block
    ]
    return block.replace(SHOWN, address)


def sent_as_shown(image: Path, folder: Path, *, address: str) -> NDArray[np.uint8]:
    """The mask that the manual's command leaves for the image."""
    folder.mkdir(exist_ok=True)
    (folder / "slice.png").write_bytes(image.read_bytes())
    (folder / "mask.png").unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", shown_command(address=address)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment() | {"PATH": path},
    )
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(folder / "mask.png"))


def post(address: str, content: object) -> tuple[int, Any]:
    """Status and content of the answer."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", json.dumps(content), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def ask(address: str, *images: str) -> list[dict[str, Any]]:
    """What a request with these images is answered."""
    status, content = post(address, {"dataframe_records": [{"image": image} for image in images]})
    assert status == 200
    answers: list[dict[str, Any]] = content["predictions"]
    return answers


def encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def decoded(mask: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(mask))))


def largest(trained: Trained) -> tuple[Path, NDArray[np.bool_]]:
    """The validation slice with the largest predicted mask, and that mask."""
    slice_id, mask = max(trained.masks.items(), key=lambda item: item[1].sum())
    assert mask.any()
    return trained.slices / "images" / f"{slice_id}.png", mask


def test_the_command_in_the_manual_gives_the_masks_of_predict(trained: Trained, address: str, tmp_path: Path) -> None:
    for slice_id, mask in list(trained.masks.items())[:3]:
        image = trained.slices / "images" / f"{slice_id}.png"
        np.testing.assert_array_equal(sent_as_shown(image, tmp_path / "here", address=address), mask * 255)


def test_images_of_every_kind_get_the_masks_of_predict_and_a_broken_one_an_error(
    trained: Trained, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: trained.store)
    path, mask = largest(trained)
    image = np.asarray(Image.open(path))
    Image.fromarray(image.astype(np.uint16) * 40 + 1000).save(tmp_path / "deep.tif")
    Image.fromarray(np.ascontiguousarray(image[:, :48])).save(tmp_path / "narrow.png")
    Image.fromarray(image).convert("RGB").save(tmp_path / "colour.jpg", quality=95)
    names = ("deep.tif", "narrow.png", "colour.jpg")
    arguments = [trained.run_id, *(str(tmp_path / name) for name in names), "-o", str(tmp_path / "out")]
    assert predict.main(arguments) == 0

    whole, *others = (encoded(file) for file in (path, *(tmp_path / name for name in names)))
    cut = base64.b64encode(path.read_bytes()[:200]).decode()
    first, broken, *of_others, text = ask(address, whole, cut, *others, "no image!")
    np.testing.assert_array_equal(decoded(first["mask"]), mask * 255)
    assert (first["width"], first["height"], first["area_px"]) == (128, 128, mask.sum())
    assert 0.5 <= first["confidence"] <= first["max_probability"] <= 1
    assert (first["warnings"], first["error"]) == ([], None)
    for name, answer in zip(names, of_others, strict=True):
        predicted = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{Path(name).stem}.png"))
        np.testing.assert_array_equal(decoded(answer["mask"]), predicted)
    assert "width/height 0.38 (1.00 in training)" in of_others[1]["warnings"]
    assert broken["error"].startswith("image 2 is damaged or cut off (")
    assert text["error"].startswith("image 6 is not base64 (")
    for failed in (broken, text):
        kept = {key: value for key, value in failed.items() if key not in ("error", "warnings")}
        assert set(kept.values()) == {None}


def blank(width: int, height: int) -> str:
    """A black picture in base64, a few bytes for each row."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (("",) * 129, "a request of 129 rows, at most 128 are answered; send several requests"),
        ((blank(4096, 4097), blank(4096, 4096)), "images of 33558528 pixels in all, at most 33554432 are answered"),
    ],
    ids=["rows", "pixels"],
)
def test_more_than_a_request_may_hold_is_refused(address: str, images: tuple[str, ...], reason: str) -> None:
    status, content = post(address, {"dataframe_records": [{"image": image} for image in images]})
    assert status == 400
    assert reason in content["stack_trace"]


def test_a_row_without_an_image_costs_only_its_own_answer(trained: Trained, address: str) -> None:
    path, mask = largest(trained)
    for rows in ([None, encoded(path), None], [{}, {"image": encoded(path)}, {"image": None}], [None]):
        records = [row if isinstance(row, dict) else {"image": row} for row in rows]
        status, content = post(address, {"dataframe_records": records})
        assert status == 200, content
        answers = content["predictions"]
        missing = [f"image {n} is missing; send a PNG, JPEG or TIFF file in base64" for n in range(1, len(rows) + 1)]
        assert [answer["error"] for answer in answers] == [*missing[:1], *([None] if rows[1:] else []), *missing[2:]]
        if rows[1:]:
            np.testing.assert_array_equal(decoded(answers[1]["mask"]), mask * 255)


def test_a_request_of_another_form_is_refused(address: str) -> None:
    status, content = post(address, {"dataframe_records": [{"picture": "x"}]})
    assert status == 400
    assert "image" in content["message"]


def test_the_served_folder_says_what_it_takes_and_pickles_nothing(registered: Registered) -> None:
    (folder,) = (registered.folder / "runs" / "artifacts").glob("*/artifacts/registered/model")
    from mlflow.models import Model

    model = Model.load(str(folder))
    assert model.signature is not None
    assert [(column.name, str(column.type)) for column in model.signature.inputs.inputs] == [
        ("image", "DataType.string")
    ]
    assert model.signature.outputs.input_names()[0] == "mask"
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert decoded(example["dataframe_split"]["data"][0][0]).shape == (32, 32)
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings <= {"", ".py", ".css", ".html", ".js", ".json", ".yaml", ".txt", ".keras"}
    required = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert required == {"keras", "mlflow", "numpy", "pandas", "pillow", "scipy", "tensorflow"}


@dataclass(frozen=True)
class Serving:
    """`python -m brainseg.serve` while it runs."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: Path


@pytest.fixture(scope="module")
def serving(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    arguments = ("brainseg@served", f"--port={port}", "--max-megabytes=1", "--root", registered.config.root)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "brainseg.serve", *arguments], stdout=out, stderr=out, env=environment()
        )
    try:
        wait_for(port, lambda: process.poll() is None)
        yield Serving(process=process, address=f"http://127.0.0.1:{port}", log=log)
    finally:
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        with pytest.raises(ConnectionRefusedError):  # the server behind it has ended as well
            socket.create_connection(("127.0.0.1", port), 5)


def test_serve_answers_the_command_in_the_manual(trained: Trained, serving: Serving, tmp_path: Path) -> None:
    path, mask = largest(trained)
    np.testing.assert_array_equal(sent_as_shown(path, tmp_path / "here", address=serving.address), mask * 255)
    assert serving.log.read_text().startswith("version 1 of brainseg, run ")


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ({"dataframe_records": [{"image": "x" * 2**20}]}, 413),
        ({"dataframe_records": [{"image": ""}] * 10_001}, 400),
        ({"dataframe_records": [{"image": blank(5793, 5793)}]}, 400),
        (json.loads("[" * 900 + "]" * 900), 400),
    ],
    ids=["bytes", "values", "pixels", "nested"],
)
def test_serve_goes_on_after_what_it_refuses(trained: Trained, serving: Serving, content: object, refused: int) -> None:
    path, mask = largest(trained)
    assert post(serving.address, content)[0] == refused
    (answer,) = ask(serving.address, encoded(path))
    np.testing.assert_array_equal(decoded(answer["mask"]), mask * 255)


@pytest.mark.parametrize("model", ["brainseg@nobody", "brainseg/7", "brainseg/x", "nothing/1", "brainseg"])
def test_serve_refuses_what_is_no_version(
    registered: Registered, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main([model, "--port", str(free_port()), "--root", registered.config.root]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {model!r} is no version of a registered model; name NAME@ALIAS or NAME/VERSION")


def test_serve_refuses_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["brainseg@served", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --port {port} can't be listened on (")


@pytest.mark.slow
def test_mlflow_models_serve_answers_the_command_in_the_manual(
    trained: Trained, registered: Registered, tmp_path: Path
) -> None:
    port = free_port()
    (shown,) = [line for line in PAGE.read_text().splitlines() if line.startswith("mlflow models serve")]
    command = shown.replace("5001", str(port)).replace("@champion", "@served").split()
    env = environment() | {
        "MLFLOW_TRACKING_URI": registered.uri,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("PYTHONPATH", None)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, lambda: process.poll() is None)
        path, mask = largest(trained)
        answered = sent_as_shown(path, tmp_path / "here", address=f"http://127.0.0.1:{port}")
        np.testing.assert_array_equal(answered, mask * 255)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
