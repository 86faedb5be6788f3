"""What an experiment says for people stays in its comments."""

from pathlib import Path

import yaml

from brainseg.plan.choices import Choice
from brainseg.plan.experiment_file import experiment_text


def test_a_line_break_in_a_name_ends_no_comment() -> None:
    odd = "glioma\nseed: 7\u2028seed: 8\x85seed: 9"
    choice = Choice(key="data.image_size", value=64, why=f"for {odd}")
    text = experiment_text(Path("/slices"), about=[f"of {odd}"], groups={"data": "folder"}, choices=[choice])
    assert yaml.safe_load(text) == {
        "defaults": [{"override /data": "folder"}],
        "data": {"root": "/slices", "image_size": 64},
    }
    assert r"# of glioma\nseed: 7\u2028seed: 8\x85seed: 9" in text
