"""Parts of plugins in a configuration: chosen by name, with options that are keys like any other."""

import sys
from pathlib import Path

import pytest

from brainseg import compose, plugins
from brainseg.completion import _overrides
from brainseg.config import flatten
from brainseg.config_file import from_yaml, to_yaml
from brainseg.errors import ConfigError, ResumeError
from brainseg.train.help import help_text
from examples import forgotten

ATTENTION = ["plugins=[attention]", "model.name=attention_unet"]
OPTIONS = {"model.options.depth": 3, "model.options.filters": 16}


def options_in(values):
    return {key: value for key, value in values.items() if ".options." in key}


def test_the_options_of_a_chosen_part_are_keys_with_defaults(example) -> None:
    example("attention")
    config = compose.freeze(ATTENTION)
    assert options_in(flatten(config)) == OPTIONS
    assert config.plugins == ("attention",)
    changed = compose.freeze([*ATTENTION, "model.options.depth=4"])
    assert options_in(flatten(changed)) == OPTIONS | {"model.options.depth": 4}
    assert changed.model.size_factor == 16


def test_a_file_in_conf_gives_a_part_with_its_options_a_name(example, here: Path) -> None:
    example("attention")
    (here / "conf" / "model").mkdir(parents=True)
    file = "defaults: [_base_]\nname: attention_unet\noptions: {depth: 2}\n"
    (here / "conf" / "model" / "mine.yaml").write_text(file)
    config = compose.freeze(["plugins=[attention]", "model=mine", "model.options.filters=4"])
    assert config.model.options == {"depth": 2, "filters": 4}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("model.options.dept=4", "model.options.dept is no option of attention_unet; did you mean 'depth'?"),
        ("model.options.depth=9", "model.options.depth must be between 1 and 6, got 9"),
        ("model.options.depth=deep", "model.options.depth must be a whole number, got 'deep'"),
        ("model.depth=3", "model.depth has no use with the chosen model; leave it out, or choose another model"),
        ("model.norm=none", "model.norm has no use with the chosen model; leave it out, or choose another model"),
        ("data.image_size=20", "data.image_size must be divisible by 8, got 20; try 16"),
        (
            "train.deep_supervision=0.5",
            "train.deep_supervision needs coarser levels, got model.name=attention_unet without coarse(); "
            "use train.deep_supervision=0 or a network that has it",
        ),
    ],
)
def test_a_wrong_option_is_refused_in_a_line(example, overrides: str, told: str) -> None:
    example("attention")
    with pytest.raises(ConfigError) as error:
        compose.freeze([*ATTENTION, overrides])
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["model.name=atention_unet", "plugins=[attention]"],
            "model.name must be one of unet, encoder_unet, attention_unet, got 'atention_unet'; "
            "did you mean 'attention_unet'? (a part of a plugin needs plugins=[MODULE])",
        ),
        (["model.options.depth=3"], "model.options.depth is no option of unet; it has none"),
        (["model.options=${seed}"], "model.options must be {option: value}, got 0"),
        (["plugins=0.2"], "plugins must be a list of different names, got 0.2; write plugins=[NAME]"),
        (
            ["plugins=[attention.py]"],
            "plugins must be modules as `import` names them, got 'attention.py'; leave out folder and .py",
        ),
    ],
)
def test_a_part_or_module_that_isnt_there_is_refused(example, overrides: list[str], told: str) -> None:
    example("attention")
    with pytest.raises(ConfigError) as error:
        compose.freeze(overrides)
    assert str(error.value) == told


def test_a_module_that_isnt_there_or_raises_is_refused_in_a_line(here: Path) -> None:
    with pytest.raises(ConfigError) as error:
        compose.freeze(["plugins=[attention]"])
    assert str(error.value) == f"plugins: there is no module 'attention' on the path or in {here}; check its name"
    (here / "attention.py").write_text("import brainseg\n1 / 0\n")
    with pytest.raises(ConfigError) as error:
        compose.freeze(["plugins=[attention]"])
    told = "the plugin attention can't be imported: ZeroDivisionError: division by zero (attention.py, line 2)"
    assert str(error.value) == told


def test_values_of_a_sweep_choose_a_part_and_its_options(example) -> None:
    example("attention")
    composition = compose.Composition(["plugins=[attention]"])
    config = composition.with_values({"model.options.depth": 2, "model.name": "attention_unet"})
    assert config.model.options == {"depth": 2, "filters": 16}
    assert composition.with_values({"model.name": "unet"}).model.options == {}
    with pytest.raises(ConfigError, match=r"^model.options.dept is no option of attention_unet"):
        composition.with_values({"model.name": "attention_unet", "model.options.dept": 2})


def test_help_and_completion_show_the_options_of_what_is_chosen(example) -> None:
    from argparse import Namespace

    example("attention")
    lines = help_text(ATTENTION).splitlines()
    assert "  options.depth: 3            # encoder levels before the bottleneck" in lines
    assert "options.depth" not in help_text([])
    line = Namespace(overrides=ATTENTION)
    assert "model.options.depth=" in _overrides("model.options.d", line)
    assert "model.name=attention_unet" in _overrides("model.name=att", line)


def test_a_stored_configuration_is_read_without_its_plugin_and_imports_nothing(example) -> None:
    example("attention")
    with forgotten():
        text = to_yaml(compose.freeze([*ATTENTION, "model.options.depth=2"]))
    stored = from_yaml(text, where="a run")
    assert stored.model.name == "attention_unet"
    assert options_in(flatten(stored)) == OPTIONS | {"model.options.depth": 2}
    assert to_yaml(stored) == text
    assert "attention" not in sys.modules
    asked = compose.freeze(["resume=abc"])
    with pytest.raises(ResumeError) as error:
        compose.resumed(stored, asked, ["resume=abc"])
    assert str(error.value) == (
        "resume=abc: model.name must be one of unet, encoder_unet, got 'attention_unet'; "
        "did you mean 'encoder_unet'? (a part of a plugin needs plugins=[MODULE]); add plugins=[attention]"
    )


def test_a_built_in_part_may_have_options_as_well(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = "@dataclass(frozen=True, kw_only=True)\nclass {}:\n    {}: float = key(0.9, low=0.0, high=1.0, help='x')\n"
    text = "from dataclasses import dataclass\nfrom brainseg.plugins import key\n"
    (here / "own_optimizers.py").write_text(text + part.format("AdamW", "beta") + part.format("Sgd", "momentum"))
    monkeypatch.syspath_prepend(here)
    places = {"adamw": "own_optimizers:AdamW", "sgd": "own_optimizers:Sgd"}
    monkeypatch.setattr(plugins, "BUILT_IN", plugins.BUILT_IN | {"optimizers": places})
    monkeypatch.setattr(plugins, "OWN_OPTIONS", ("optimizers",))
    assert compose.freeze([]).optimizer.options == {}  # none that differs from its default
    config = compose.freeze(["optimizer=sgd", "optimizer.options.momentum=0.5"])
    assert config.optimizer.options == {"momentum": 0.5}
    assert from_yaml(to_yaml(config), where="a run") == config
    changed = compose.Composition([]).with_values({"optimizer.options.momentum": 0.3, "optimizer.name": "sgd"})
    assert changed.optimizer.options == {"momentum": 0.3}
    with pytest.raises(ConfigError, match=r"^optimizer.options.momentum is no option of adamw; it has beta$"):
        compose.freeze(["optimizer.options.momentum=0.5"])
