"""The benchmark that pools the folds, on a table of five slices that is added up by hand."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.encoder_folds import cells, groups, read_rows

SLICES = {"1": "P1,glioma", "2": "P1,glioma", "3": "P1B,glioma", "4": "P2,pituitary", "5": "P3,pituitary"}


@pytest.fixture
def root(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for slice_id in SLICES:
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / f"{slice_id}.png")
    lines = ["id,patient_id,tumor_type", *(f"{slice_id},{columns}" for slice_id, columns in SLICES.items())]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_folds_are_pooled_by_slice_type_and_fold(root):
    (root / "folds.csv").write_text("fold,id,dice\n0,1,0.5\n0,2,0.0\n0,3,0.7\n1,4,0.9\n1,5,1.0\n")
    rows = read_rows(root / "folds.csv", root=root)
    table = {name: cells(name, group)[1:] for name, group in groups(rows)}
    assert list(table) == ["all", "glioma", "pituitary", "fold 0", "fold 1"]
    assert table["glioma"] == ["3", "1", "0.4000", "0.5000", "33.3 %"]  # P1B is a further scan of P1
    slices, people, dice, median, at_zero = table["all"]
    assert (slices, people, median, at_zero) == ("5", "3", "0.7000", "20.0 %")
    assert dice.startswith("0.6200 (")


@pytest.mark.parametrize("line", ["1,1,0.9", "1,6,0.9"], ids=["twice", "unknown"])
def test_a_slice_that_is_tested_twice_or_unknown_is_refused(root, line):
    (root / "folds.csv").write_text(f"fold,id,dice\n0,1,0.5\n{line}\n")
    with pytest.raises(SystemExit, match="is there"):
        read_rows(root / "folds.csv", root=root)
