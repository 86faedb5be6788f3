"""A checkpoint is replaced as a whole or not at all, and a damaged one is an error of one line."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from brainseg.errors import ResumeError, RunBusyError
from brainseg.train.checkpoint import Checkpoints, RunManifest, TrainingProgress, TrainingState

MANIFEST = RunManifest(config_yaml="c", data_fingerprint="d", split_json="{}", precision="float32", threads=2)


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path, "run1")
    made.begin(MANIFEST)
    return made


def state(epoch, *, best_epoch=0, value=None, step=0):
    """A state whose arrays all hold `value` (by default the epoch); best weights hold ten times as much."""
    value = epoch if value is None else value
    history = tuple({"val_dice_image": number / 10} for number in range(1, epoch))
    return TrainingState(
        progress=TrainingProgress(epoch=epoch, step=step, history=history, best_epoch=best_epoch, best_score=0.5),
        variables=[np.full((2, 3), value, np.float32), np.array([value, 7], np.uint32)],
        best=[np.full(3, 10 * value, np.float32)] if best_epoch else [],
    )


def assert_same(found, expected):
    assert found.progress == expected.progress
    for arrays, wanted in ((found.variables, expected.variables), (found.best, expected.best)):
        assert len(arrays) == len(wanted)
        for array, other in zip(arrays, wanted, strict=True):
            np.testing.assert_array_equal(array, other, strict=True)


def again(checkpoints):
    """As another process sees the folder."""
    return Checkpoints(checkpoints.folder.parents[1], "run1")


def test_what_was_saved_is_loaded(checkpoints):
    saved = state(4, best_epoch=2, step=5)
    checkpoints.save(saved)
    assert_same(again(checkpoints).load(), saved)
    assert again(checkpoints).manifest() == MANIFEST


def test_a_manifest_that_names_no_store_is_read(checkpoints):
    path = checkpoints.folder / "run.json"
    stored = json.loads(path.read_text())
    assert stored.pop("store") == ""
    path.write_text(json.dumps(stored))  # as version 0.1 wrote it
    assert again(checkpoints).manifest() == MANIFEST


def test_more_arrays_than_digits_keep_their_order(checkpoints):
    many = [np.array(number, np.float32) for number in range(1200)]
    checkpoints.save(TrainingState(progress=TrainingProgress(), variables=many, best=[]))
    assert [int(array) for array in checkpoints.load().variables] == list(range(1200))


def test_a_run_killed_before_its_first_checkpoint_has_none(checkpoints):
    assert checkpoints.load() is None


def test_only_the_last_state_and_the_best_epoch_stay_on_disk(checkpoints):
    for number, best in ((2, 1), (3, 2), (4, 2)):
        checkpoints.save(state(number, best_epoch=best))
    assert sorted(os.listdir(checkpoints.folder)) == ["best-00002.npz", "last.npz", "run.json"]


def raising(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "what", ["brainseg.train.checkpoint.np.savez", "os.fsync", "brainseg.train.checkpoint.Path.replace"]
)
@pytest.mark.parametrize("best_epoch", [1, 2], ids=["last", "best"])
def test_a_save_that_fails_half_way_leaves_the_one_before_whole(checkpoints, monkeypatch, what, best_epoch):
    before = state(2, best_epoch=1)
    checkpoints.save(before)
    with monkeypatch.context() as patched:
        patched.setattr(what, raising)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(state(3, best_epoch=best_epoch))
    assert_same(again(checkpoints).load(), before)
    assert not list(checkpoints.folder.glob("*.tmp"))
    after = state(3, best_epoch=2)
    checkpoints.save(after)
    assert_same(again(checkpoints).load(), after)


def test_best_weights_of_an_epoch_that_is_trained_again_replace_those_of_a_lost_attempt(checkpoints, monkeypatch):
    checkpoints.save(state(2, best_epoch=1))
    real, calls = np.savez, []

    def second_fails(file, **arrays):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, **arrays)

    with monkeypatch.context() as patched:
        patched.setattr("brainseg.train.checkpoint.np.savez", second_fails)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(state(3, best_epoch=2, value=1))  # the best weights are written, last.npz isn't
    resumed = again(checkpoints)
    assert_same(resumed.load(), state(2, best_epoch=1))
    trained_again = state(3, best_epoch=2, value=4)
    resumed.save(trained_again)
    assert_same(again(checkpoints).load(), trained_again)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04cut off"])
@pytest.mark.parametrize("name", ["last.npz", "best-00001.npz"])
def test_a_damaged_file_is_named(checkpoints, name, content):
    checkpoints.save(state(2, best_epoch=1))
    (checkpoints.folder / name).write_bytes(content)
    with pytest.raises(ResumeError, match=rf"resume=run1: .*{name} can't be read .*; start a new run") as error:
        again(checkpoints).load()
    assert "\n" not in str(error.value)


def test_a_flipped_bit_is_found(checkpoints):
    checkpoints.save(TrainingState(progress=TrainingProgress(), variables=[np.zeros(1000)], best=[]))
    path = checkpoints.folder / "last.npz"
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1  # within the array: the directory at the end is much shorter
    path.write_bytes(content)
    with pytest.raises(ResumeError, match=r"last\.npz can't be read"):
        again(checkpoints).load()


def test_a_best_file_that_is_gone_is_named(checkpoints):
    checkpoints.save(state(2, best_epoch=1))
    (checkpoints.folder / "best-00001.npz").unlink()
    with pytest.raises(ResumeError, match=r"best-00001\.npz can't be read"):
        again(checkpoints).load()


@pytest.mark.parametrize("version", [0, 2, None])
def test_a_checkpoint_of_another_schema_is_refused_with_the_remedy(checkpoints, version):
    path = checkpoints.folder / "run.json"
    stored = json.loads(path.read_text()) | {"schema_version": version, "unknown": 1}
    path.write_text(json.dumps(stored))
    with pytest.raises(ResumeError, match=rf"schema_version {version}.* reads 1; resume with the brainseg that"):
        checkpoints.manifest()


def test_a_start_that_is_no_json_is_named(checkpoints):
    (checkpoints.folder / "run.json").write_text('{"schema_version": 1, "conf')
    with pytest.raises(ResumeError, match=r"run\.json can't be read"):
        checkpoints.manifest()


def test_a_run_without_a_folder_says_where_it_looked(tmp_path):
    with pytest.raises(ResumeError, match=r"resume=nobody: there is no checkpoint .*checkpoints; check the id"):
        Checkpoints(tmp_path, "nobody").manifest()
    assert list(tmp_path.iterdir()) == []


def test_removing_leaves_nothing(checkpoints):
    checkpoints.save(state(2, best_epoch=1))
    checkpoints.remove()
    assert not checkpoints.folder.exists()


HOLD = """
import sys
from pathlib import Path
from brainseg.train.checkpoint import Checkpoints
with Checkpoints(Path(sys.argv[1]), "run1").lease():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.heavy
def test_a_lease_is_held_by_one_process_and_released_by_its_death(checkpoints, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        expected = rf"resume=run1: the run is alive, in process {holder.pid} on .+; wait for it, or stop it first"
        with pytest.raises(ResumeError, match=expected), checkpoints.lease():
            pass
        holder.kill()
    with checkpoints.lease() as held:
        assert held is checkpoints


def test_a_lease_is_released_at_the_end_of_the_block(checkpoints):
    with pytest.raises(RuntimeError, match="inside"), checkpoints.lease():
        raise RuntimeError("inside")
    with again(checkpoints).lease():
        pass


def test_a_reserved_run_is_leased_by_its_holder_alone(checkpoints):
    with checkpoints.reserved():
        with checkpoints.lease():
            pass
        with pytest.raises(RunBusyError), again(checkpoints).lease():
            pass
    with again(checkpoints).lease():
        pass


def test_a_run_that_has_finished_is_not_reserved(checkpoints):
    checkpoints.remove()
    with pytest.raises(ResumeError, match="there is no checkpoint"), checkpoints.reserved():
        pass
    assert not checkpoints.folder.exists()
