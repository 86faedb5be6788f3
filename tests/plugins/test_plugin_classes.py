"""What a part's class must be, told when its module is imported."""

from pathlib import Path

import pytest

from brainseg import plugins
from brainseg.errors import ConfigError

LOSS = "def __call__(self, mask, probability): return 0.0"


@pytest.mark.parametrize(
    ("kind", "name", "body", "told"),
    [
        ("loses", "mine", LOSS, "kind of a part must be one of networks, losses"),
        ("losses", "My Loss", LOSS, "the name of a part must be lower case letters, digits and _, got 'My Loss'"),
        ("losses", "dice", LOSS, "'dice' of mine.Part is taken: brainseg has one among the losses; rename it"),
        ("losses", "mine", "weight: float = 1.0", "mine.Part.weight must be made by brainseg.plugins.key"),
        ("losses", "mine", "pass", "mine.Part must have __call__, as each of the losses"),
        ("metrics", "mine", LOSS, "mine.Part must have unit, as each of the metrics"),
        ("networks", "mine", "def build(self): pass", "mine.Part must have size_factor, as each of the networks"),
    ],
)
def test_a_class_that_is_no_part_is_refused(write, kind: str, name: str, body: str, told: str) -> None:
    write(kind, name, body)
    with pytest.raises(ConfigError) as error:
        plugins.load(["mine"])
    assert str(error.value).startswith(told)


def test_two_modules_cant_share_a_name(write, here: Path) -> None:
    write("losses", "mine", LOSS)
    (here / "other.py").write_text((here / "mine.py").read_text())
    with pytest.raises(ConfigError, match=r"^'mine' of other.Part is taken: mine.Part has one among the losses"):
        plugins.load(["mine", "other"])


def test_two_losses_of_a_sum_cant_share_an_option(here: Path) -> None:
    body = "weight: float = key(1.0, help='its share')\n    def __call__(self, mask, probability): return 0.0"
    for name in ("one", "other"):
        text = f"@register('losses', {name!r})\n@dataclass(frozen=True)\nclass Part:\n    {body}\n"
        (here / f"{name}.py").write_text(
            f"from dataclasses import dataclass\nfrom brainseg.plugins import key, register\n{text}"
        )
    plugins.load(["one", "other"])
    assert [*plugins.options_of("losses", ["ce", "one"])] == ["weight"]
    with pytest.raises(ConfigError, match=r"^two of the losses one, other have an option weight"):
        plugins.options_of("losses", ["one", "other"])


def test_the_origin_of_a_part_changes_with_its_file(write, here: Path) -> None:
    import hashlib

    write("losses", "mine", LOSS)
    plugins.load(["mine"])
    digest = hashlib.sha256((here / "mine.py").read_bytes()).hexdigest()
    assert plugins.origin("losses", "mine") == f"mine sha256:{digest}"
