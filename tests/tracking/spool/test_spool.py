"""The write-ahead record survives what a kill or a full disk leaves of it."""

from pathlib import Path

import pytest

from brainseg.tracking.spool.spool import (
    LAST_BYTES,
    RESERVED_BYTES,
    DamagedSpoolError,
    SpoolBusyError,
    is_held,
    open_spool,
    peek,
    spooled_runs,
)


def numbers(parent: Path) -> list[int]:
    """The values of every record of the run."""
    return [record.body["value"] for record in peek(parent, "run")[0]]


def test_records_are_read_in_the_order_of_writing(tmp_path: Path) -> None:
    with open_spool(tmp_path, "run") as spool:
        for value in range(3):
            spool.append("metrics", {"value": value})
        seen = []
        while record := spool.next():
            seen.append((record.number, record.kind, record.body))
            spool.advance(record)
        assert seen == [(value, "metrics", {"value": value}) for value in range(3)]
        assert spool.pending == 0


def test_what_was_taken_is_not_given_again_after_opening_anew(tmp_path: Path) -> None:
    with open_spool(tmp_path, "run") as spool:
        spool.append("metrics", {"value": 0})
        spool.append("metrics", {"value": 1})
        first = spool.next()
        assert first is not None
        spool.advance(first)
    with open_spool(tmp_path, "run") as spool:
        second = spool.next()
        assert second is not None
        assert (second.number, second.body, spool.pending) == (1, {"value": 1}, 1)


@pytest.mark.parametrize("torn", [b'{"kind":"metr', b"{", b'{"kind":"metrics","value":' + b"9" * 5000])
def test_a_record_that_a_kill_cut_off_is_written_over(tmp_path: Path, torn: bytes) -> None:
    with open_spool(tmp_path, "run") as spool:
        spool.append("metrics", {"value": 0})
    path = tmp_path / "run" / "records.jsonl"
    data = path.read_bytes()
    end = data.index(b"\0")
    path.write_bytes(data[:end] + torn + data[end + len(torn) :])
    with open_spool(tmp_path, "run") as spool:
        assert spool.pending == 1
        spool.append("metrics", {"value": 1})
        spool.append("metrics", {"value": 2})
    assert numbers(tmp_path) == [0, 1, 2]


def test_the_space_is_reserved_and_grows(tmp_path: Path) -> None:
    with open_spool(tmp_path, "run") as spool:
        path = tmp_path / "run" / "records.jsonl"
        assert path.stat().st_blocks * 512 >= RESERVED_BYTES
        for value in range(3):
            spool.append("metrics", {"value": value, "padding": "x" * (RESERVED_BYTES // 2)})
    assert numbers(tmp_path) == [0, 1, 2]
    assert path.stat().st_blocks * 512 > RESERVED_BYTES


def test_how_a_run_ended_has_room_where_nothing_else_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with open_spool(tmp_path, "run") as spool:
        monkeypatch.setattr("brainseg.tracking.spool.spool._reserve", disk_full)
        spool.append("metrics", {"value": 0, "padding": "x" * (RESERVED_BYTES - LAST_BYTES - 100)})
        with pytest.raises(OSError, match="No space left"):
            spool.append("metrics", {"value": 1, "padding": "x" * 100})
        spool.append("end", {"value": 2}, last=True)
    assert numbers(tmp_path) == [0, 2]


def test_a_file_is_kept_until_its_record_is_taken(tmp_path: Path) -> None:
    with open_spool(tmp_path, "run") as spool:
        spool.append_file("file", b"text", "config.yaml", {"folder": ""})
        record = spool.next()
        assert record is not None
        assert spool.path_of(record).read_bytes() == b"text"
        assert spool.path_of(record).name == "config.yaml"
        spool.advance(record)
        assert not spool.path_of(record).exists()


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    with open_spool(tmp_path, "run"):
        assert is_held(tmp_path, "run")
        with pytest.raises(SpoolBusyError):
            open_spool(tmp_path, "run")
    assert not is_held(tmp_path, "run")
    assert not is_held(tmp_path, "another")
    open_spool(tmp_path, "run").close()


def test_a_deleted_spool_leaves_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "run")
    assert spooled_runs(tmp_path) == ["run"]
    spool.delete()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        open_spool(tmp_path, "run", create=False)
    assert list(tmp_path.iterdir()) == []


# A line of records.jsonl that brainseg didn't write, and what is said of it.
NO_RECORDS = {
    "no JSON": (b"{kind: metrics}", "is not JSON (Expecting property name"),
    "no UTF-8": (b'{"kind":"\xff"}', "is not JSON ('utf-8' codec"),
    "thousands of brackets": (b"[" * 300_000, "is nested too deeply"),
    "a list": (b"[]", "isn't a record of a run"),
    "no kind": (b"{}", "isn't a record of a run"),
    "a tag that is no text": (b'{"kind":"begin","tags":{"attempt":[]}}', "isn't a record of a run"),
    "a file elsewhere": (b'{"kind":"file","file":"../../secret"}', "isn't a record of a run"),
    "a file in a folder above": (b'{"kind":"file","file":"files/0/../../../secret"}', "isn't a record of a run"),
    "the folder itself": (b'{"kind":"file","file":"files/0/.."}', "isn't a record of a run"),
}


@pytest.mark.parametrize(("line", "said"), NO_RECORDS.values(), ids=NO_RECORDS)
def test_a_line_that_is_no_record_is_refused_with_its_place_and_changes_nothing(
    line: bytes, said: str, tmp_path: Path
) -> None:
    with open_spool(tmp_path, "run") as spool:
        spool.append("metrics", {"value": 0})
    path = tmp_path / "run" / "records.jsonl"
    path.write_bytes(path.read_bytes().partition(b"\0")[0] + line + b"\n")
    written = path.read_bytes()
    for read in (peek, open_spool):
        with pytest.raises(DamagedSpoolError) as caught:
            read(tmp_path, "run")
        assert str(caught.value).startswith(f"{path} line 2 {said}")
        assert str(caught.value).endswith(f"; restore it, or delete {path.parent} and what waits there for the store")
    assert path.read_bytes().rstrip(b"\0") == written
    assert not is_held(tmp_path, "run")


def test_a_damaged_count_of_delivered_bytes_is_refused(tmp_path: Path) -> None:
    open_spool(tmp_path, "run").close()
    (tmp_path / "run" / "delivered").write_bytes(b"\0" * 20)
    for read in (peek, open_spool):
        with pytest.raises(DamagedSpoolError, match=r"/run/delivered isn't a number of bytes; restore it, or delete "):
            read(tmp_path, "run")
