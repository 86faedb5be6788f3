"""The study file: what it says is what the study is, and what is wrong in it is said in one line."""

import dataclasses
import math
from pathlib import Path

import pytest
from study_files import LEFT_OUT, SMALL, made_study, write_study

from brainseg.errors import ConfigError
from brainseg.sweep.study.constraint import excess
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, SamplerConfig, StudyConfig, read_study, sweeps_folder
from brainseg.sweep.study.study_rules import METRICS

SPACE = SMALL["space"]
DROPOUT, DEPTH = SPACE["model.dropout"], SPACE["model.depth"]
WHEN = {"type": "float", "low": 0.1, "high": 0.2, "when": {"model.depth": 5}}
RATE = {"type": "float", "low": 1e-5, "high": 1e-2, "log": True}
NORM = {"type": "categorical", "choices": ["none", "batch"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_everything_in_the_file_is_in_the_study(tmp_path: Path) -> None:
    Path("tiny.yaml").write_text(
        """
metrics: {val_dice_image: maximize, parameters: minimize}
trials: 9
workers: 2
failures: 1
retries: 0
time_limit_min: 1.5
overrides:
  - experiment=reference
  - tracking.experiment=mine
baseline: {optimizer: adam, model.depth: 4}
enqueue:
  - {model.depth: 5, optimizer: sgd, optimizer.learning_rate: 1}
space:
  optimizer: {type: categorical, choices: [adam, sgd]}
  optimizer.learning_rate: {type: float, low: 1e-5, high: 1.0, log: true, when: {optimizer: sgd}}
  model.depth: {type: int, low: 3, high: 5, step: 1}
sampler: {name: random, seed: 7}
pruner: {name: none}
"""
    )
    assert read_study("tiny.yaml") == StudyConfig(
        name="tiny",
        metrics={"val_dice_image": "maximize", "parameters": "minimize"},
        trials=9,
        overrides=("experiment=reference",),
        tracking=("tracking.experiment=mine",),
        baseline={"optimizer": "adam", "model.depth": 4},
        enqueue=({"optimizer": "sgd", "optimizer.learning_rate": 1.0, "model.depth": 5},),
        space=(
            Parameter(key="optimizer", type="categorical", choices=("adam", "sgd")),
            Parameter(
                key="optimizer.learning_rate", type="float", low=1e-5, high=1.0, log=True, when={"optimizer": ("sgd",)}
            ),
            Parameter(key="model.depth", type="int", low=3, high=5, step=1),
        ),
        sampler=SamplerConfig(name="random", seed=7),
        pruner=PrunerConfig(name="none"),
        workers=2,
        failures=1,
        retries=0,
        time_limit_min=1.5,
    )


def test_what_a_file_leaves_out_has_defaults(tmp_path: Path) -> None:
    config = made_study(tmp_path, baseline=LEFT_OUT)
    assert dataclasses.asdict(config) == {
        "name": "study",
        "metrics": {"val_dice_image": "maximize"},
        "trials": 6,
        "overrides": (),
        "tracking": (),
        "baseline": {},
        "enqueue": (),
        "space": tuple(dataclasses.asdict(parameter) for parameter in config.space),
        "sampler": {"name": "tpe", "seed": 0, "options": {}},
        "pruner": {"name": "median", "options": {}},
        "repeat": {},
        "constraints": (),
        "workers": 1,
        "failures": 3,
        "retries": 1,
        "time_limit_min": None,
        "recipe": {},
    }


def test_options_stand_beside_the_name(tmp_path: Path) -> None:
    config = made_study(
        tmp_path,
        sampler={"name": "tpe", "seed": 3, "n_startup_trials": 8, "constant_liar": False},
        pruner={"name": "hyperband", "reduction_factor": 2},
    )
    assert config.sampler == SamplerConfig(name="tpe", seed=3, options={"n_startup_trials": 8, "constant_liar": False})
    assert config.pruner == PrunerConfig(name="hyperband", options={"reduction_factor": 2})


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": LEFT_OUT, "direction": LEFT_OUT, "metrics": {"final_dice": "maximize", "parameters": "minimize"}},
        {"metric": "seconds_per_image", "direction": "minimize"},
    ],
    ids=["several metrics", "a metric that no epoch foretells"],
)
def test_nothing_is_pruned_by_default_where_nothing_can_be(tmp_path: Path, changes: dict[str, object]) -> None:
    assert made_study(tmp_path, **changes).pruner == PrunerConfig(name="none")


def test_the_command_line_comes_after_the_file(tmp_path: Path) -> None:
    write_study(tmp_path, overrides=["train.epochs=6", "tracking.root=here"], workers=1)
    config = read_study(
        "study.yaml", overrides=["train.epochs=3", "tracking.uri=http://host", "seed=1"], trials=2, workers=4
    )
    assert (config.overrides, config.tracking) == (
        ("train.epochs=6", "train.epochs=3", "seed=1"),
        ("tracking.root=here", "tracking.uri=http://host"),
    )
    assert (config.trials, config.workers) == (2, 4)


def test_a_study_in_the_working_folder_comes_before_the_one_that_brainseg_carries(tmp_path: Path) -> None:
    assert read_study("quick").name == "quick"
    assert read_study("quick").trials != 99
    Path("sweeps").mkdir()
    write_study(tmp_path, trials=99).rename("sweeps/quick.yaml")
    assert read_study("quick").trials == 99


@pytest.mark.parametrize("path", sorted(sweeps_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_a_carried_study_can_be_read(path: Path) -> None:
    assert read_study(path.stem) == read_study(str(path))
    assert read_study(path.stem).first_points()


def test_an_unknown_study_is_refused_with_the_known_ones() -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text("")
    with pytest.raises(ConfigError) as error:
        read_study("quik")
    assert str(error.value) == (
        "there is no study 'quik' in sweeps/; known are ablation, folds, mine, quick, reference; did you mean 'quick'?"
    )


def test_a_path_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^sweeps/nowhere.yaml: there is no such file; give the path"):
        read_study("sweeps/nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials: 2\ntrials: 3\n", "is not YAML (line 2: found duplicate key trials); correct it"),
        ("space: [", "is not YAML (line 1: expected the node content, but found '<stream end>'); correct it"),
        ("- a\n", "must hold keys and values, such as trials: 32"),
        ("", "trials must be given; add it"),
        (
            "trials: ${oc.env:TRIALS}",
            "trials must be a plain value, got '${oc.env:TRIALS}'; write what it stands for",
        ),
        (
            "overrides: [a, 'data.root=${oc.env:HOME}']",
            "overrides[1] must be a plain value, got 'data.root=${oc.env:HOME}'; write what it stands for",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused(text: str, message: str) -> None:
    Path("study.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_study("study.yaml")
    assert str(error.value) == f"study.yaml: {message}"


def test_a_file_that_is_no_text_is_refused() -> None:
    Path("study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"^study.yaml: can't be read \(.*\); it must be a YAML file$"):
        read_study("study.yaml")


REPEAT = [
    ({"repeat": [0, 1]}, "repeat must hold keys and values, got [0, 1]"),
    ({"repeat": {"seed": 3}}, "repeat.seed must be a list, got 3; write [3]"),
    (
        {"repeat": {"model.depth": [3, 4]}},
        "the key of repeat must be one of seed, data.fold, data.split_seed, got 'model.depth'",
    ),
    (
        {"repeat": {"seed": [0, 1], "data.fold": [0, 1]}},
        "repeat must have one key, got seed and data.fold; leave one of them out",
    ),
    ({"repeat": {"seed": [0]}}, "repeat.seed must be two or more different values, got [0]; try [0, 1, 2]"),
    ({"repeat": {"seed": [0, 1, 0]}}, "repeat.seed must be two or more different values, got [0, 1, 0]; try [0, 1, 2]"),
    ({"repeat": {"seed": [0, 1.5]}}, "repeat.seed must be whole numbers of 0 or more, got [0, 1.5]; try [0, 1, 2]"),
    (
        {"repeat": {"seed": [0, 1]}, "overrides": ["seed=3"]},
        "seed is in repeat and fixed by 'seed=3'; leave it out of one of them",
    ),
    (
        {"repeat": {"seed": [0, 1]}, "space": {"seed": {"type": "int", "low": 0, "high": 3}}, "baseline": LEFT_OUT},
        "seed is in the space and in repeat; leave it out of one of them",
    ),
    (
        {"repeat": {"seed": [0, 1, 2]}, "pruner": {"name": "median"}},
        "pruner.name must be wilcoxon or none with repeat, as a trial is stopped between its runs, got 'median'; "
        "write pruner: {name: wilcoxon}",
    ),
    (
        {"repeat": {"seed": [0, 1, 2]}, "pruner": {"name": "wilcoxon"}},
        "pruner.p_threshold 0.1 is reached after 4 runs at the earliest, and a trial has 3; raise it, give repeat more "
        "values, or write pruner: {name: none}",
    ),
    (
        {"pruner": {"name": "wilcoxon"}},
        "pruner.name wilcoxon compares the runs of repeat, which is missing; add it, or try median",
    ),
    (
        {
            **{
                "metric": LEFT_OUT,
                "direction": LEFT_OUT,
                "metrics": {"final_dice": "maximize", "parameters": "minimize"},
            },
            **{"repeat": {"seed": [0, 1, 2, 3, 4]}, "pruner": {"name": "wilcoxon"}},
        },
        "pruner.name must be none for several metrics, got 'wilcoxon'; write pruner: {name: none}",
    ),
]
KEYS_AND_TYPES = [
    ({"trails": 3}, "trails is not a key of a study file; did you mean 'trials'?"),
    ({"trials": LEFT_OUT}, "trials must be given; add it"),
    ({"trials": 0}, "trials must be between 1 and 100000, got 0"),
    ({"trials": "many"}, "trials must be a whole number, got 'many'"),
    ({"workers": True}, "workers must be a whole number, got True"),
    ({"retries": -1}, "retries must be between 0 and 100000, got -1"),
    ({"time_limit_min": 0}, "time_limit_min must be between 0.0 and 1000000.0, both excluded, got 0"),
    (
        {"name": "a/b"},
        "name must be letters, digits, - _ or dots, at most 64, beginning with a letter or digit, got 'a/b'; "
        "write name: NAME into the file",
    ),
    (
        {"metric": LEFT_OUT, "direction": LEFT_OUT},
        "metric must be given: one of val_dice_image, final_dice, parameters, seconds_per_image",
    ),
    (
        {"metric": "val_dice_imag"},
        "metric must be one of val_dice_image, final_dice, parameters, seconds_per_image, got 'val_dice_imag'; "
        "did you mean 'val_dice_image'? (a part of a plugin needs plugins=[MODULE])",
    ),
    ({"direction": LEFT_OUT}, "direction must be given: maximize or minimize; add it"),
    (
        {"direction": "max"},
        "direction must be one of maximize, minimize, got 'max'",
    ),
    ({"metrics": {"final_dice": "maximize"}}, "metric can't go with metrics, which says it; leave one of them out"),
    ({"overrides": "seed=1"}, "overrides must be a list, got 'seed=1'; write [seed=1]"),
    ({"overrides": [{"seed": 1}]}, "overrides must be a list of texts such as train.epochs=16, got {'seed': 1}"),
    ({"overrides": ["seed"]}, "overrides must be of the form key=value, got 'seed'"),
    (
        {"overrides": ["resume=abc"]},
        "overrides can't set resume: the engine itself resumes a trial that was stopped; leave 'resume=abc' out",
    ),
    (
        {"overrides": ["run_name=x"]},
        "overrides can't set run_name: the engine names its runs; leave 'run_name=x' out",
    ),
    (
        {"overrides": ["+model.depth=3"]},
        "model.depth is in the space and fixed by '+model.depth=3'; leave it out of one of them",
    ),
]

SPACES = [
    ({}, "space must have at least one parameter, such as model.dropout; add it"),
    ({"model.dropout": 0.1}, "space.model.dropout must hold keys and values, got 0.1"),
    ({"model.dropout": {"low": 0}}, "space.model.dropout.type must be given: float, int or categorical"),
    (
        {"model.dropout": DROPOUT | {"type": "flaot"}},
        "space.model.dropout.type must be one of float, int, categorical, got 'flaot'; did you mean 'float'?",
    ),
    (
        {"model.dropout": DROPOUT | {"hgih": 1}},
        "space.model.dropout.hgih is not a key of a study file; did you mean 'high'?",
    ),
    (
        {"model.dropout": DROPOUT | {"low": 0.6}},
        "space.model.dropout.low must be below high = 0.5, got 0.6; put a fixed value into overrides",
    ),
    (
        {"model.dropout": {"type": "float", "low": 0.1}},
        "space.model.dropout.high must be given for type float; add it",
    ),
    ({"model.depth": DEPTH | {"low": 2.5}}, "space.model.depth.low must be a whole number, got 2.5"),
    ({"model.depth": DEPTH | {"low": "two"}}, "space.model.depth.low must be a whole number, got 'two'"),
    ({"model.dropout": DROPOUT | {"high": float("inf")}}, "space.model.dropout.high must be a number, got inf"),
    (
        {"model.dropout": DROPOUT | {"step": 0.15}},
        "space.model.dropout.high must be low + a multiple of step = 0.15, got 0.5; try 0.45",
    ),
    ({"model.dropout": DROPOUT | {"step": 0}}, "space.model.dropout.step must be above 0, got 0"),
    ({"a.rate": RATE | {"low": 0.0}}, "space.a.rate.low must be above 0 for log: true, got 0.0"),
    (
        {"a.rate": RATE | {"step": 0.001}},
        "space.a.rate.step can't go with log: true, got 0.001; leave one of them out",
    ),
    ({"a.rate": RATE | {"log": "yes"}}, "space.a.rate.log must be true or false, got 'yes'"),
    (
        {"model.depth": DEPTH | {"choices": [3, 4]}},
        "space.model.depth.choices is for type categorical, got type int; leave it out",
    ),
    (
        {"model.norm": NORM | {"low": 1}},
        "space.model.norm.low is for type float and int, got type categorical; leave it out",
    ),
    (
        {"model.norm": {"type": "categorical", "choices": ["none"]}},
        "space.model.norm.choices must be a list of at least two values, got ['none']",
    ),
    (
        {"model.norm": {"type": "categorical", "choices": ["none", [1]]}},
        "space.model.norm.choices must be texts, numbers, true, false or null, got [1]",
    ),
    (
        {"model.norm": {"type": "categorical", "choices": ["none", "none"]}},
        "space.model.norm.choices must differ, got 'none' twice; leave one out",
    ),
    (
        {"tracking.offline": NORM},
        "space.tracking.offline can't be searched: the record of a study goes to one place",
    ),
    (
        {"data.val_fraction": DROPOUT},
        "space.data.val_fraction can't be searched: every trial of a study has the same data; "
        "of data, only data.image_size, data.batch_size, data.augment, data.foreground_share, data.fold, "
        "data.split_seed, data.split_file can be searched",
    ),
    (
        {"train.threads": DEPTH},
        "space.train.threads can't be searched: the engine shares the threads among the workers",
    ),
    (
        {"a.b": WHEN, "model.depth": DEPTH},
        "space.a.b.when must name a parameter of the space before it, got 'model.depth'; move model.depth before a.b",
    ),
    (
        {"model.depth": DEPTH, "a.b": WHEN | {"when": {"model.depth": [5, 6]}}},
        "space.a.b.when.model.depth must be a whole number between 3 and 5, got 6",
    ),
    (
        {"model.depth": DEPTH, "a.b": WHEN | {"when": {"model.depth": []}}},
        "space.a.b.when.model.depth must have at least one value, got none; add it, or leave it out",
    ),
    (
        {"a.rate": RATE, "a.b": WHEN | {"when": {"a.rate": 1e-3}}},
        "space.a.b.when.a.rate must be a key with single values, and a float has them only with a step; add step",
    ),
]

FIRST_TRIALS = [
    (
        {"baseline": {"model.dropout": 0.1, "model.dept": 4}},
        "baseline.model.dept is not in the space; did you mean 'model.depth'?",
    ),
    (
        {"baseline": {"model.dropout": 0.1}},
        "baseline must say every searched key, and model.depth is missing; add it",
    ),
    (
        {"baseline": {"model.dropout": 0.12, "model.depth": 4}},
        "baseline.model.dropout must be between 0.0 and 0.5 in steps of 0.05, got 0.12",
    ),
    (
        {"baseline": {"model.dropout": [0.1], "model.depth": 4}},
        "baseline.model.dropout must be a text, a number, true, false or null, got [0.1]",
    ),
    (
        {"enqueue": [SMALL["baseline"], {"model.dropout": 0.1, "model.depth": 6}]},
        "enqueue[1].model.depth must be a whole number between 3 and 5, got 6",
    ),
    (
        {"enqueue": [{"model.dropout": 0.1, "model.depth": 4.0}]},
        "enqueue[0].model.depth must be a whole number between 3 and 5, got 4.0",
    ),
    (
        {"space": SPACE | {"a.b": WHEN}, "baseline": SMALL["baseline"] | {"a.b": 0.1}},
        "baseline.a.b is searched only where model.depth is 5; leave it out",
    ),
    (
        {"space": SPACE | {"a.b": WHEN}, "baseline": {"model.dropout": 0.1, "model.depth": 5}},
        "baseline must say every searched key, and a.b is missing; add it",
    ),
]

SAMPLERS_AND_PRUNERS = [
    (
        {"sampler": {"name": "tpee"}},
        "sampler.name must be one of tpe, random, grid, cmaes, qmc, gp, nsgaii, got 'tpee'; "
        "did you mean 'tpe'? (a part of a plugin needs plugins=[MODULE])",
    ),
    ({"sampler": {"seed": -1}}, "sampler.seed must be between 0 and 2147483647, got -1"),
    (
        {"sampler": {"n_start_trials": 3}},
        "sampler.n_start_trials is not an option of tpe; did you mean 'n_startup_trials'?",
    ),
    ({"sampler": {"name": "random", "group": True}}, "sampler.group is not an option of random; it has none"),
    (
        {"sampler": {"n_startup_trials": 2.5}},
        "sampler.n_startup_trials must be a whole number, got 2.5",
    ),
    ({"sampler": {"multivariate": 1}}, "sampler.multivariate must be true or false, got 1"),
    (
        {"sampler": {"name": "qmc", "qmc_type": "sobel"}},
        "sampler.qmc_type must be one of sobol, halton, got 'sobel'; did you mean 'sobol'?",
    ),
    (
        {"sampler": {"name": "nsgaii", "population": 9}},
        "sampler.population is not an option of nsgaii; did you mean 'population_size'?",
    ),
    ({"sampler": {"name": "nsgaii", "crossover_prob": 2}}, "sampler.crossover_prob must be between 0.0 and 1.0, got 2"),
    ({"sampler": {"name": "qmc", "qmc_type": 1}}, "sampler.qmc_type must be a text, got 1"),
    (
        {"pruner": {"name": "percentil"}},
        "pruner.name must be one of median, percentile, hyperband, successive_halving, patient, wilcoxon, none, got "
        "'percentil'; did you mean 'percentile'? (a part of a plugin needs plugins=[MODULE])",
    ),
    ({"pruner": {"name": "percentile", "percentile": 101}}, "pruner.percentile must be between 0.0 and 100.0, got 101"),
    (
        {"pruner": {"name": "patient", "pruner": {"name": "median", "n_warmup": 1}}},
        "pruner.pruner.n_warmup is not an option of median; did you mean 'n_warmup_steps'?",
    ),
    ({"pruner": {"name": "patient", "pruner": "median"}}, "pruner.pruner must hold keys and values, got 'median'"),
    ({"pruner": {"interval_steps": 0}}, "pruner.interval_steps must be at least 1, got 0"),
    (
        {"pruner": {"name": "median", "max_resource": 4}},
        "pruner.max_resource is not an option of median; "
        "it has n_startup_trials, n_warmup_steps, interval_steps, n_min_trials",
    ),
    (
        {"pruner": {"name": "median"}, "metric": "parameters", "direction": "minimize"},
        "pruner.name must be none for metric parameters, which no epoch foretells, got 'median'; "
        "write pruner: {name: none}",
    ),
    (
        {
            "pruner": {"name": "hyperband"},
            "metric": LEFT_OUT,
            "direction": LEFT_OUT,
            "metrics": {"final_dice": "maximize", "parameters": "minimize"},
        },
        "pruner.name must be none for several metrics, got 'hyperband'; write pruner: {name: none}",
    ),
    *(
        (
            {"sampler": {"name": name}, "space": SPACE | {"a.b": WHEN}},
            f"sampler.name: {name} can't search space.a.b, which has a when; use tpe or random",
        )
        for name in ("grid", "cmaes", "qmc")
    ),
    (
        {"sampler": {"name": "grid"}, "space": {"a.rate": RATE}, "baseline": {}},
        "space.a.rate.step must be given for sampler.name: grid; add it",
    ),
    *(
        (
            {"baseline": {}, "space": {"data.fold": DEPTH}, "sampler": {"name": sampler}, "pruner": {"name": pruner}},
            "space.data.fold needs sampler.name grid and pruner.name none, as scores on different slices can't be "
            f"ranked, got {sampler} and {pruner}",
        )
        for sampler, pruner in (("grid", "median"), ("random", "none"))
    ),
    (
        {"sampler": {"name": "grid"}, "trials": 34},
        "trials must be at most the 33 points of the grid, got 34; try 33",
    ),
    (
        {"sampler": {"name": "cmaes"}, "space": {"model.depth": DEPTH, "model.norm": NORM}, "baseline": {}},
        "sampler.name: cmaes needs at least two parameters of numbers, got 1; use tpe",
    ),
    (
        {
            "sampler": {"name": "cmaes"},
            "metric": LEFT_OUT,
            "direction": LEFT_OUT,
            "metrics": {"final_dice": "maximize", "parameters": "minimize"},
        },
        "sampler.name: cmaes needs a single metric, got 2; use tpe",
    ),
]

ONCE = "must compare a metric once, by <= or >="
CONSTRAINTS = [
    ("parameters < 2e6", f"{ONCE}, got 'parameters < 2e6'; write parameters <= 2e6"),
    ("1 <= parameters <= 9", f"{ONCE}, got '1 <= parameters <= 9'; write parameters <= 2e6"),
    ("parameters <=", f"{ONCE}, got 'parameters <='; write parameters <= 2e6"),
    ("paramters <= 2e6", "must name metrics, got 'paramters'; did you mean 'parameters'?"),
    ("1 <= 2", "must name a metric, got '1 <= 2'; known are val_dice_image, final_dice, parameters, seconds_per_image"),
    (
        "parameters <= open('f')",
        "must be of metrics, numbers, +, - and *, got \"open('f')\"; write parameters <= 2e6",
    ),
    (
        "parameters <= 9 ** 9 ** 9",
        "must be of metrics, numbers, +, - and *, got '9 ** 9 ** 9'; write parameters <= 2e6",
    ),
]


REACHED = {"parameters": 3e6, "final_dice": 0.5, "val_dice_image": 0.75}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parameters <= 2e6", 1e6),
        ("4e6 >= parameters", -1e6),
        ("final_dice >= val_dice_image - 0.125", 0.125),
        ("-(2 * final_dice + 1) <= -3", 1.0),
        ("parameters <= 3000000", 0.0),
    ],
)
def test_a_constraint_is_missed_by_so_much(text: str, expected: float) -> None:
    assert excess(text, REACHED) == expected


def test_a_metric_without_a_value_keeps_no_constraint() -> None:
    assert excess("parameters <= 9", {"parameters": math.nan}) == math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"constraints": [text]}, f"constraints[0] {message}") for text, message in CONSTRAINTS),
        ({"constraints": [5]}, "constraints must be a list of texts such as parameters <= 2e6, got 5"),
        (
            {"constraints": ["parameters <= 9", "parameters <= 9"]},
            "constraints[1] must differ from those before it, got 'parameters <= 9' again; leave it out",
        ),
        *KEYS_AND_TYPES,
        *REPEAT,
        *(({"space": space, "baseline": {}}, message) for space, message in SPACES),
        *FIRST_TRIALS,
        *SAMPLERS_AND_PRUNERS,
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        made_study(tmp_path, **changes)
    assert str(error.value) == f"study.yaml: {message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "trials must be between 1 and 100000, got 0"),
        ({"workers": 0}, "workers must be between 1 and 100000, got 0"),
        (
            {"overrides": ["model.depth=4"]},
            "model.depth is in the space and fixed by 'model.depth=4'; leave it out of one of them",
        ),
        (
            {"overrides": ["data.root=${oc.env:HOME}"]},
            "overrides must have plain values, got 'data.root=${oc.env:HOME}'; write what it stands for",
        ),
    ],
)
def test_what_is_wrong_on_the_command_line_is_not_blamed_on_the_file(
    tmp_path: Path, given: dict[str, object], message: str
) -> None:
    write_study(tmp_path)
    with pytest.raises(ConfigError) as error:
        read_study("study.yaml", **given)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_the_manual_says_what_each_metric_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    for metric, meaning in METRICS.items():
        assert f"| `{metric}` | {meaning} |" in page
