"""What a run with `tracking.private=true` writes, other users of the machine can't read."""

import shutil
import signal
from pathlib import Path

import pytest
from file_modes import modes_in, open_to_others
from processes import Server
from trainings import PLAIN, SMALL, Training

from brainseg.config import TrackingConfig
from brainseg.errors import TrackingError
from brainseg.tracking.mlflow.connection import check_store


def started(folder: Path, server: Server, *overrides: str) -> Training:
    output = folder / "output.txt"
    pid = server.start("brainseg.train", *SMALL, *PLAIN, *overrides, folder=folder, output=output)
    return Training(pid, output, server)


@pytest.mark.parametrize("cache", ["below the root", "elsewhere"])
def test_everything_below_the_root_is_for_its_owner_alone(cache: str, process_server: Server, tmp_path: Path) -> None:
    elsewhere = [] if cache == "below the root" else ["data.cache_dir=cache"]
    training = started(tmp_path, process_server, "tracking.private=true", "train.epochs=1000", *elsewhere)
    run_id, root = training.run_id, tmp_path / "mlruns"
    training.wait_until(lambda: any((root / "checkpoints" / run_id).glob("*.npz")))
    seen = modes_in(root)
    assert training.stop(signal.SIGTERM) == 143, training.text
    resumed = started(tmp_path, process_server, f"resume={run_id}", "train.epochs=1001")
    resumed.wait_for("goes on")
    resumed.stop(signal.SIGTERM)
    seen |= modes_in(root)
    kinds = {Path(name).parts[0] for name in seen if name != "."}
    assert {"mlflow.db", "artifacts", "spool", "checkpoints"} <= kinds
    assert ("cache" in kinds) == (cache == "below the root")
    assert open_to_others(seen) == {}
    if cache == "elsewhere":  # where other users may want it
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        usual = {(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")}
        assert set(modes_in(tmp_path / "cache").values()) == usual


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    root.mkdir(mode=0o755)
    database = tmp_path / "elsewhere"
    database.mkdir(mode=0o750)
    with pytest.raises(TrackingError) as error:
        check_store(TrackingConfig(root=str(root), private=True))
    assert str(error.value) == (
        f"tracking.private needs a folder that is closed to others, and {root} has the mode 755; "
        f"close it with chmod -R go= {root}, or choose another"
    )
    root.chmod(0o700)
    check_store(TrackingConfig(root=str(root), private=True))
    with pytest.raises(TrackingError, match=rf"{database} has the mode 750"):
        check_store(TrackingConfig(root=str(root), uri=f"sqlite:///{database}/mlflow.db", private=True))
    shutil.rmtree(root)
    check_store(TrackingConfig(root=str(root), private=True))
