"""What may be configured, and that `conf/` says the same as the dataclasses."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

import brainseg.compose
from brainseg import plugins
from brainseg.classes import Labels
from brainseg.compose import Composition, add_folder, freeze, options, resumed
from brainseg.compose.search_path import LocalConf, _tell_once
from brainseg.config import FIRST_READING, RunConfig, flatten, from_flat
from brainseg.config_file import from_yaml, to_yaml
from brainseg.errors import ConfigError, ResumeError
from brainseg.keys import as_text
from brainseg.sweep.launchers.config import LauncherConfig
from examples import forgotten

CONF = Path(__file__).parent.parent / "conf"
KEYS = flatten(RunConfig())
# An allowed value of each key that isn't its default.
OTHER_VALUES: dict[str, Any] = {
    "data.name": "folder",
    "data.root": "somewhere",
    "data.images": "images/{id}.jpg",
    "data.masks": "gt/{id}, *.png",
    "data.phantom_patients": 9,
    "data.phantom_seed": 3,
    "data.phantom_kind": "colour",
    "data.annotations": "labelme",
    "data.reading": 1,
    "data.channels": "rgb",
    "data.classes": {"tumour": ["#ff0000", "#00ff00"], "cyst": "#0000ff"},
    "data.ignore": 7,
    "data.window": (-160.0, 240.0),
    "data.axis": 0,
    "data.image_size": 128,
    "data.patches": 6,
    "data.split_by": "image",
    "data.group_by": "site",
    "data.stratify_by": "site",
    "data.split_seed": 4,
    "data.split_file": "split.json",
    "data.val_fraction": 0.3,
    "data.test_fraction": 0.1,
    "data.folds": 5,
    "data.fold": 2,
    "data.batch_size": 4,
    "data.foreground_share": 0.5,
    "data.score_by": "case",
    "data.augment": "none",
    "data.limit": 50,
    "data.cache_dir": "elsewhere",
    "model.name": "unet",
    "model.depth": 3,
    "model.base_filters": 8,
    "model.stem": 2,
    "model.standardize": True,
    "model.dropout": 0.3,
    "model.norm": "none",
    "model.foreground_prior": 0.02,
    "model.encoder": "resnet50v2",
    "model.decoder_filters": (64, 32, 16, 8),
    "model.weights": "last-run",
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 1e-05,
    "optimizer.weight_decay": 0.01,
    "optimizer.encoder_rate": 0.1,
    "optimizer.schedule": "constant",
    "optimizer.warmup_epochs": 0.5,
    "train.epochs": 7,
    "train.loss": "dice",
    "train.focal_gamma": 1.5,
    "train.tversky_alpha": 0.5,
    "train.tversky_beta": 0.5,
    "train.focal_tversky_gamma": 2.0,
    "train.class_weights": {"rim": 2.0},
    "train.ema_decay": 0.99,
    "train.deep_supervision": 0.25,
    "train.precision": "float32",
    "train.patience": 3,
    "train.threads": 1,
    "tracking.uri": "http://127.0.0.1:5000",
    "tracking.root": "runs",
    "tracking.experiment": "other",
    "tracking.predictions": 0,
    "tracking.offline": True,
    "plugins": ("metric_of_a_plugin",),
    "metrics": ("slices",),
    "tracking.tags": {"purpose": "a try"},
    "tracking.system_metrics": True,
    "tracking.private": True,
    "seed": 11,
    "run_name": "a name",
    "resume": "0123",
}
# Keys that are refused without another one.
A_FOLDER = {"data.name": "folder", "data.root": "somewhere"}
THE_PHANTOMS = {"core": 1, "rim": 2, "oedema": 3}  # what the phantom brings with it
AN_ENCODER = {"model.name": "encoder_unet"}
NEEDS: dict[str, dict[str, Any]] = {
    "data.name": {"data.root": "somewhere"},
    "data.root": {"data.name": "folder"},
    "data.annotations": A_FOLDER,
    "data.axis": A_FOLDER | {"data.name": "nifti"},
    "data.images": A_FOLDER | {"data.masks": "gt/{id}.png"},
    "data.masks": A_FOLDER | {"data.images": "{patient}/{id}.jpg"},
    "data.classes": A_FOLDER,
    "data.ignore": A_FOLDER,
    "data.window": A_FOLDER,
    "train.focal_gamma": {"train.loss": "dice+focal"},
    "train.tversky_alpha": {"train.loss": "tversky"},
    "train.tversky_beta": {"train.loss": "ce+tversky"},
    "train.focal_tversky_gamma": {"train.loss": "focal_tversky"},
    "train.class_weights": {"data.phantom_kind": "classes", "data.classes": THE_PHANTOMS},
    "model.encoder": AN_ENCODER,
    "model.decoder_filters": AN_ENCODER,
    "optimizer.encoder_rate": AN_ENCODER,
    "data.folds": {"data.fold": 2},
    "model.stem": {"data.image_size": 128},
    "data.fold": {"data.folds": 5},
}


@pytest.fixture(autouse=True, scope="module")
def a_metric() -> Iterator[None]:
    """No other kind of part has none of brainseg's own."""
    with forgotten():
        plugins.load(["metric_of_a_plugin"])
        yield


def test_conf_holds_the_defaults_of_the_dataclasses() -> None:
    assert freeze([]) == RunConfig()


@pytest.mark.parametrize(
    "file",
    sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml") if path.name != "brainseg_config.yaml"),
)
def test_a_group_of_conf_has_no_key_that_the_dataclasses_lack(file: str) -> None:
    group = file.split("/")[0]
    content = yaml.safe_load((CONF / file).read_text())
    content.pop("defaults", None)
    nested = content if group == "experiment" else {group: content}
    known = {f"launcher.{field.name}" for field in dataclasses.fields(LauncherConfig)} | set(KEYS)
    for name, value in nested.items():
        keys = [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
        assert set(keys) <= known


def test_the_table_of_other_values_covers_every_key() -> None:
    assert OTHER_VALUES.keys() == KEYS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_set_from_the_command_line(key: str) -> None:
    values = {key: OTHER_VALUES[key]} | NEEDS.get(key, {})
    config = freeze([f"{name}={as_text(value)}" for name, value in values.items()])
    assert flatten(config) == KEYS | values


@pytest.mark.parametrize(
    "overrides", ["", "seed=3", "seed=3 optimizer=sgd train.loss=dice+focal 'data.classes={a: 1}'", "+seed=3", "sed=3"]
)
def test_what_the_tests_remember_is_what_hydra_composes(overrides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome() -> RunConfig | str:
        try:
            return freeze(shlex.split(overrides))
        except ConfigError as error:
            return str(error)

    remembered = [outcome(), outcome()]
    monkeypatch.setattr(brainseg.compose.composition, "hydra_compose", hydra.compose)
    assert remembered == [outcome()] * 2


@pytest.fixture(scope="module")
def composition() -> Composition:
    return Composition(["optimizer=sgd", "model.dropout=0.4"])


def test_a_composition_is_what_hydra_makes_of_it(composition: Composition) -> None:
    assert composition.with_values({}) == freeze(["optimizer=sgd", "model.dropout=0.4"])


@pytest.mark.parametrize("key", KEYS)
def test_a_value_put_into_a_composition_is_what_hydra_makes_of_it(key: str, composition: Composition) -> None:
    values = {key: OTHER_VALUES[key]} | NEEDS.get(key, {})
    expected = freeze(
        ["optimizer=sgd", "model.dropout=0.4", *(f"{name}={as_text(value)}" for name, value in values.items())]
    )
    assert composition.with_values(values) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.dropot", 0.1),
        ("model", "unet"),
        ("model.depth", 2.5),
        ("model.dropout", 0.95),
        ("tracking.offline", 1),
        ("optimizer.name", "sdg"),
        ("train.epochs", "many"),
    ],
)
def test_a_composition_refuses_what_freeze_refuses(key: str, value: float | str) -> None:
    with pytest.raises(ConfigError) as by_composition:
        Composition().with_values({key: value})
    if key != "model":  # to Hydra a group, which can't be chosen afterwards
        with pytest.raises(ConfigError) as by_hydra:
            freeze([f"{key}={value}"])
        assert str(by_composition.value) == str(by_hydra.value)


def test_the_reference_pins_every_scientific_key() -> None:
    pinned = yaml.safe_load((CONF / "experiment" / "reference.yaml").read_text())
    keys = {"seed"} | {f"{group}.{key}" for group in ("data", "model", "optimizer", "train") for key in pinned[group]}
    free = {key for key in KEYS if key.startswith(("tracking.", "data.phantom"))}
    free |= {"run_name", "resume", "plugins", "metrics", "train.threads"}
    free.add("data.axis")  # of volumes alone
    free |= {f"data.{name}" for name in ("name", "root", "images", "masks", "cache_dir")}  # where the data is
    assert keys == KEYS.keys() - free


def test_the_reference_is_the_notebook() -> None:
    config = freeze(["experiment=reference", "data.root=slices"])
    values = flatten(config)
    assert {key: values[key] for key in values if key.startswith(("model.", "optimizer.", "train."))} == {
        "model.name": "unet",
        "model.depth": 5,
        "model.base_filters": 16,
        "model.stem": 1,
        "model.standardize": False,
        "model.dropout": 0.1,
        "model.norm": "none",
        "model.foreground_prior": 0.5,
        "model.encoder": "efficientnet_lite0",
        "model.decoder_filters": (96, 64, 48, 32),
        "model.weights": None,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 1e-4,
        "optimizer.weight_decay": 0.0,
        "optimizer.encoder_rate": 1.0,
        "optimizer.schedule": "constant",
        "optimizer.warmup_epochs": 0.0,
        "train.epochs": 100,
        "train.loss": "dice",
        "train.focal_gamma": 2.0,
        "train.tversky_alpha": 0.3,
        "train.tversky_beta": 0.7,
        "train.focal_tversky_gamma": 4 / 3,
        "train.class_weights": None,
        "train.ema_decay": 0.0,
        "train.deep_supervision": 0.0,
        "train.precision": "float32",
        "train.patience": None,
        "train.threads": None,
    }
    assert (config.data.split_by, config.data.val_fraction, config.data.test_fraction) == ("image", 0.2, 0.0)
    assert (config.data.image_size, config.data.augment, config.data.limit) == (256, "none", None)
    assert config.data.reading_keys == FIRST_READING
    assert (config.data.foreground_share, config.data.score_by) == (None, "slice")


def test_a_stored_configuration_reads_back_as_it_was() -> None:
    config = from_flat(KEYS | {"optimizer.learning_rate": 1e-5, "run_name": "ä: b", "data.limit": 7})
    assert from_yaml(to_yaml(config), where="a file") == config


def test_a_configuration_stored_before_a_key_existed_takes_the_old_behaviour() -> None:
    text = to_yaml(
        from_flat({"data.image_size": 128, "model.stem": 2, "model.standardize": True, "train.ema_decay": 0.5})
    )
    lines = [line for line in text.splitlines() if line.strip().partition(":")[0] not in ("stem", "ema_decay")]
    old = from_yaml("\n".join(lines), where="a file")
    assert (old.model.stem, old.model.standardize, old.train.ema_decay) == (1, True, 0.0)


def test_a_configuration_stored_when_blocks_could_be_chosen_reads_where_they_were_plain() -> None:
    def stored(block: str) -> str:
        return to_yaml(RunConfig()).replace("model:\n", f"model:\n  block: {block}\n")

    assert from_yaml(stored("plain"), where="a file") == RunConfig()
    with pytest.raises(ConfigError, match=r"^model.block is not a configuration key"):
        from_yaml(stored("residual"), where="a file")


def test_a_stored_configuration_of_a_newer_brainseg_is_refused() -> None:
    text = to_yaml(RunConfig()).replace("schema_version: 1", "schema_version: 99")
    with pytest.raises(
        ConfigError, match=r"^a file has schema_version 99, and this brainseg reads 1; use the brainseg"
    ):
        from_yaml(text, where="a file")


def test_a_local_conf_comes_before_the_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nmodel:\n  dropout: 0.45\n"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert freeze(["experiment=mine"]).model.dropout == 0.45


# As an earlier version carried them, where each file said every key.
FULL_CONFIG = """
defaults: [brainseg_config, _self_, override model: base, override optimizer: sgd]
seed: 3
run_name: null
resume: null
"""
FULL_SGD = "name: sgd\nlearning_rate: 3e-2\nweight_decay: 1e-4\nschedule: cosine\nwarmup_epochs: 1.0\n"
FULL_MODEL = (
    "name: unet\ndepth: 4\nbase_filters: 8\nstem: 1\nstandardize: false\n"
    "dropout: 0.2\nnorm: none\nforeground_prior: 0.5\n"
)


def test_whole_files_in_a_local_conf_take_the_place_of_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config": FULL_CONFIG, "optimizer/sgd": FULL_SGD, "model/base": FULL_MODEL}
    for name, text in files.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    changed = {"model.depth": 4, "model.base_filters": 8, "model.dropout": 0.2, "model.norm": "none"}
    changed |= {"optimizer.name": "sgd", "optimizer.learning_rate": 0.03, "seed": 3}
    assert flatten(freeze([])) == KEYS | changed
    assert flatten(freeze(["model.stem=2", "model.dropout=0.1"])) == KEYS | changed | {
        "model.stem": 2,
        "model.dropout": 0.1,
    }
    # The built-in files start from the defaults still, not from a file that happens to be called base.
    assert freeze(["model=unet"]).model == RunConfig().model


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("text", ["model: resnet\n", "defaults: [model: resnet]\n", "- a\n", "model: [\n"])
def test_the_config_of_another_hydra_project_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    write(tmp_path / "conf" / "config.yaml", text)
    monkeypatch.chdir(tmp_path)
    _tell_once.cache_clear()
    assert freeze([]) == RunConfig()
    assert caplog.messages == ["conf/config.yaml is left aside; it would count with brainseg_config among its defaults"]


def test_a_config_that_extends_brainsegs_counts_and_is_named_in_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "conf" / "config.yaml"
    write(file, "defaults: [brainseg_config, _self_, override optimizer: sgd]\nmodel: {dropout: 0.3}\n")
    monkeypatch.chdir(tmp_path)
    config = freeze([])
    assert (config.optimizer.name, config.model.dropout, config.model.depth) == ("sgd", 0.3, 5)
    write(file, "defaults: [brainseg_config, _self_]\nmodel: {dropout: 3}\n")
    with pytest.raises(ConfigError, match=r"^conf/config.yaml: model.dropout must be between 0.0 and 0.9, got 3.0$"):
        freeze([])
    assert freeze(["model.dropout=0.2"]).model.dropout == 0.2


def test_an_experiment_may_lie_deeper_and_be_added_with_a_plus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conf" / "experiment" / "sub" / "mine.yaml", "# @package _global_\nseed: 7\n")
    monkeypatch.chdir(tmp_path)
    assert options()["experiment"] == ["best", "reference", "scratch", "sub/mine"]
    for override in ("experiment=sub/mine", "+experiment=sub/mine"):
        assert freeze([override]).seed == 7
    with pytest.raises(
        ConfigError, match=r"^experiment must be one of best, reference, scratch, sub/mine, got 'sub/mime'; did"
    ):
        freeze(["experiment=sub/mime"])


def test_a_further_folder_of_files_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalConf, "added", None)
    write(tmp_path / "more" / "experiment" / "theirs.yaml", "# @package _global_\nseed: 8\n")
    write(tmp_path / "more" / "experiment" / "best.yaml", "# @package _global_\nseed: 9\n")
    monkeypatch.chdir(tmp_path)
    add_folder("more")
    assert freeze(["experiment=theirs"]).seed == 8
    assert freeze(["experiment=best", "data.root=slices"]).seed == 0
    with pytest.raises(ConfigError, match=r"^--config-dir must be a folder, got nowhere; name one that"):
        add_folder("nowhere")


# What a file of settings can't be, and what is said of it.
NO_SETTINGS = {
    "anchors that multiply": (
        "a: &a 1\n"
        + "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 20)}]" for before, name in pairwise("abcdef")),
        "stands for more than 100,000 values; write fewer",
    ),
    "a character of no text": ('name: "a\\0b"\n', "has a text with the character U+0000; remove it"),
    "thousands of brackets": (f"name: {'[' * 3000}", "is nested deeper than 20 levels; make it flatter"),
}


def of_search_path(text: str, folder: Path, *, is_typed: bool) -> RunConfig:
    """What an optimizer's file composes to that lies on Hydra's own search path, typed or in ./conf/config.yaml."""
    path = f"[file://{folder}/more]"
    chosen = "defaults: [brainseg_config, _self_, override optimizer: theirs]\n"
    write(folder / "conf" / "config.yaml", chosen + ("" if is_typed else f"hydra: {{searchpath: {path}}}\n"))
    write(folder / "more" / "optimizer" / "theirs.yaml", text)
    return freeze([f"hydra.searchpath={path}"] * is_typed)


@pytest.mark.parametrize("is_typed", [False, True], ids=["in the file", "typed"])
def test_files_may_lie_on_hydras_own_search_path(
    is_typed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert of_search_path("learning_rate: 0.5\n", tmp_path, is_typed=is_typed).optimizer.learning_rate == 0.5


@pytest.mark.parametrize("is_typed", [False, True], ids=["in the file", "typed"])
@pytest.mark.parametrize(("text", "said"), NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_files_of_hydras_own_search_path_are_checked_like_all_others(
    text: str, said: str, is_typed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^more/optimizer/theirs.yaml {re.escape(said)}$"):
        of_search_path(text, tmp_path, is_typed=is_typed)


@pytest.mark.heavy
def test_keys_of_ones_own_are_for_interpolation_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = "optimizer.learning_rate=${vars.rate}"
    expected = replace(RunConfig(), optimizer=replace(RunConfig().optimizer, learning_rate=0.02))
    for given in ("+vars.rate=0.02", "++vars.rate=0.02", "vars.rate=0.02", "+vars={rate: 0.02}"):
        assert freeze([given, rate]) == expected
    assert Composition(["+vars.rate=0.02", rate]).with_values({"seed": 1}) == replace(expected, seed=1)
    text = "# @package _global_\nvars: {rate: 0.02, depth: 3}\noptimizer: {learning_rate: '${vars.rate}'}\n"
    write(tmp_path / "conf" / "experiment" / "mine.yaml", text)
    monkeypatch.chdir(tmp_path)
    assert freeze(["experiment=mine", "model.depth=${vars.depth}", "vars.depth=2"]).model.depth == 2
    with pytest.raises(
        ConfigError, match=r"^conf/experiment/mine.yaml: optimizer.learning_rate must be a n.*, got 'fast'$"
    ):
        freeze(["experiment=mine", "vars.rate=fast"])
    with pytest.raises(ConfigError, match=r"^optimizer.learning_rate refers to what doesn't exist"):
        freeze([rate])


def test_a_tag_of_ones_own_is_set_by_its_name() -> None:
    tags = freeze(["tracking.tags.purpose=a try", "+tracking.tags.number=3"]).tracking.tags
    assert tags == {"purpose": "a try", "number": "3"}


def test_a_resume_keeps_experiment_and_tags_unless_it_names_others() -> None:
    stored = freeze(["tracking.experiment=theirs", "tracking.tags.purpose=old"])
    assert resumed(stored, freeze([]), []) == stored
    overrides = ["tracking.experiment=mine", "tracking.tags.purpose=new"]
    assert resumed(stored, freeze(overrides), overrides) == freeze(overrides)


@pytest.mark.parametrize("recipe", [[], ["experiment=reference", "data.root=slices"]], ids=["keys", "experiment"])
def test_a_resume_records_as_the_run_did_unless_told_otherwise(recipe: list[str]) -> None:
    kept = ["tracking.predictions=0", "tracking.private=true", "tracking.offline=true"]
    stored = freeze([*recipe, *kept, "tracking.root=there"])
    overrides = [*recipe, "tracking.root=here", "tracking.offline=false"]
    tracking = resumed(stored, freeze(overrides), overrides).tracking
    assert (tracking.predictions, tracking.private, tracking.offline, tracking.root) == (0, True, False, "here")


def test_a_resume_keeps_what_the_run_found_in_its_data() -> None:
    overrides = ["data=folder", "data.root=slices"]
    found = ["data.annotations=coco.json", "data.classes={car: 1}", "data.ignore=255", "data.channels=rgb"]
    stored = freeze([*overrides, *found])
    assert resumed(stored, freeze(overrides), overrides) == stored
    with pytest.raises(ResumeError, match=r"data\.ignore can't change"):
        resumed(stored, freeze([*overrides, "data.ignore=7"]), [*overrides, "data.ignore=7"])


def test_the_defaults_are_no_option_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^optimizer must be one of adafactor, .*, sgd, got '_base_'$"):
        freeze(["optimizer=_base_"])
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /optimizer: adan\n"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"^conf/experiment/mine.yaml: optimizer must be one of adafactor, .*, sgd, got 'adan'"
    ):
        freeze(["experiment=mine"])


def test_a_key_without_use_is_refused_however_its_option_was_chosen() -> None:
    message = r"^data.phantom_seed has no use with the chosen data; leave it out, or choose another data$"
    with pytest.raises(ConfigError, match=message):
        freeze(["data.name=folder", "data.root=slices", "data.phantom_seed=3"])
    with pytest.raises(ConfigError, match=message):
        Composition(["data=folder", "data.root=slices"]).with_values({"data.phantom_seed": 3})


def test_a_key_of_a_loss_is_refused_where_the_loss_lacks_its_term() -> None:
    message = r"^train.focal_gamma has no use with train.loss=bce_dice; leave it out, or choose a loss with focal$"
    with pytest.raises(ConfigError, match=message):
        freeze(["train.focal_gamma=3"])
    with pytest.raises(ConfigError, match=message):
        Composition().with_values({"train.focal_gamma": 3.0})
    assert freeze(["train.loss=bce_dice+focal", "train.focal_gamma=3"]).train.focal_gamma == 3.0
    with pytest.raises(ConfigError, match=r"choose a loss with tversky or focal_tversky$"):
        freeze(["train.tversky_beta=0.5"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.loss=dice+focl"],
            r"^train.loss must be one of dice, .*, got 'focl'; did you mean 'focal'\? \(a part of a plugin needs",
        ),
        (["train.loss=dice+"], r"^train.loss must be one of dice, .*, got '' \(a part of a plugin needs plugins"),
        (
            ["train.loss=bce_dice+ce"],
            r"^train.loss must have each term once, got 'bce_dice\+ce', which has ce twice; leave one out$",
        ),
        (
            ["train.class_weights={tumour: 2}"],
            "^train.class_weights needs classes; name them in data.classes, or leave it out$",
        ),
        (
            ["data.phantom_kind=classes", "train.class_weights={cor: 2}"],
            "^a name in train.class_weights must be one of core, rim, oedema, background, got 'cor'; did you mean",
        ),
        (
            ["data.phantom_kind=classes", "train.class_weights={core: -1}"],
            r"^train.class_weights.core must be between 0.0 and 1000000.0, got -1.0$",
        ),
        (
            ["data.phantom_kind=classes", "train.class_weights={core: much}"],
            r"^train.class_weights.core must be a number, got 'much'$",
        ),
        (
            ["data=folder", "data.root=x", "data.classes={sky: 0, road: 1}", "train.class_weights={background: 2}"],
            "^a name in train.class_weights must be one of sky, road, got 'background'$",
        ),
        (["data.classes=${seed}"], "^data.classes must be .*, got 0$"),
        (["train.class_weights=${data.name}"], "^train.class_weights must be .*, got phantom$"),
        (["tracking.tags=${model.decoder_filters}"], r"^tracking.tags must be `\{name: text\}`, got \[96, "),
        (["metrics=${optimizer.learning_rate}"], "^metrics must be a list of different names, got 0.0"),
        (["model=[1,2]"], r"^model must be one of encoder_unet, unet, got '\[1,2\]'$"),
        (["data.classes={core: 1}"], "^data.classes is for files, got it with data.name=phantom; leave it out$"),
        (["data.ignore=7"], "^data.ignore is for files, got it with data.name=phantom; leave it out$"),
        (
            ["data.channels=[t1,t2]"],
            "^data.channels must be auto, grey or rgb for data.name=phantom, got names of files$",
        ),
    ],
)
def test_a_loss_or_classes_that_cant_be_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        freeze(overrides)


def test_the_phantom_with_classes_brings_them_and_a_folder_made_from_it_keeps_them() -> None:
    config = freeze(["data.phantom_kind=classes", "train.class_weights={core: 2, background: 0.5}"])
    assert config.data.labels == Labels(names=("core", "rim", "oedema"), exclusive=True)
    assert config.train.class_weights == {"core": 2.0, "background": 0.5}
    assert from_yaml(to_yaml(config), where="a file") == config
    folder = dataclasses.replace(config.data, name="folder", root="slices")
    assert folder.labels == config.data.labels


@pytest.mark.parametrize(
    ("given", "size", "recorded"),
    [("96", (96, 96), 96), ("[64,96]", (64, 96), (64, 96)), ("[96,96]", (96, 96), 96), ("[128]", (128, 128), 128)],
)
def test_an_image_size_is_a_number_or_a_height_and_a_width(given: str, size: tuple[int, int], recorded: object) -> None:
    config = freeze([f"data.image_size={given}"])
    assert (config.data.size, config.data.image_size) == (size, recorded)
    assert from_yaml(to_yaml(config), where="a file") == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[64,100]", "data.image_size must be divisible by 2**model.depth = 32, got [64, 100]; try [64, 96]"),
        ("[64,4]", "data.image_size must be between 8 and 4096, got 4"),
        ("large", "data.image_size must be a whole number or two, got large; write 96 or [96,128], height first"),
        ("[64,64,1]", "data.image_size must be a whole number or two, got [64, 64, 1]; write 96 or [96,128], "
         "height first"),
        ("9.5", "data.image_size must be a whole number or two, got 9.5; write 96 or [96,128], height first"),
    ],
)  # fmt: skip
def test_an_image_size_that_no_network_takes_is_refused_in_one_line(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        freeze([f"data.image_size={given}"])
    assert str(error.value) == message
