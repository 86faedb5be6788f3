"""What is shipped: the wheel, the source archive and the `brainseg` command."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from tiny_run import TINY

import brainseg

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel made from it, as `make dist` leaves them."""
    folder = tmp_path_factory.mktemp("dist")
    # With the environment of these tests as it is.
    command = ["make", "dist", f"DIST={folder}", f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.dev"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def run(arguments: list[str], *, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python with these arguments; `path` comes first among the places to import from."""
    environment = dict(os.environ) | ({} if path is None else {"PYTHONPATH": str(path)})
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_carries_every_configuration_and_study(wheel: zipfile.ZipFile) -> None:
    paths = [path for folder in ("conf", "sweeps") for path in (ROOT / folder).rglob("*.yaml")]
    files = {f"brainseg/{path.relative_to(ROOT).as_posix()}" for path in paths}
    assert {
        "brainseg/conf/brainseg_config.yaml",
        "brainseg/conf/experiment/reference.yaml",
        "brainseg/sweeps/quick.yaml",
    } <= files
    assert files <= set(wheel.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"brainseg", f"brainseg-{brainseg.__version__}.dist-info"}
    assert not [name for name in wheel.namelist() if "test_" in name or "tests/" in name or name.endswith(".pyc")]


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"brainseg-{brainseg.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("brainseg", brainseg.__version__)
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License-Expression"] == "MIT"
    needed = metadata.get_all("Requires-Dist") or []
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in needed if "extra ==" not in requirement}
    assert {"tensorflow", "hydra-core", "mlflow", "optuna", "pillow", "h5py"} <= names
    assert "pytest" not in names
    assert wheel.read(f"{info}/entry_points.txt").decode().split("\n")[1] == "brainseg = brainseg.__main__:main"


def test_the_source_archive_holds_what_a_build_and_the_tests_need(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "conf/brainseg_config.yaml",
        "brainseg/train/__main__.py",
    } <= names
    assert {
        "tests/conftest.py",
        "benchmarks/__init__.py",
        "CONTRIBUTING.md",
        "Makefile",
        "requirements-dev.lock",
    } <= names
    kept_private = [name for name in names if name.startswith(("mlruns/", ".venv/")) and name != "mlruns/README.md"]
    assert kept_private == []


def test_the_installed_package_composes_what_the_checkout_does(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)  # noqa: S202  # our own archive, made above
    elsewhere.mkdir()
    arguments = ["-m", "brainseg.train", "--cfg", "job", "experiment=reference", "data.root=slices"]
    where = run(["-c", "import brainseg; print(brainseg.__file__)"], cwd=elsewhere, path=site)
    assert Path(where.stdout.strip()).is_relative_to(site)
    installed, checkout = run(arguments, cwd=elsewhere, path=site), run(arguments, cwd=elsewhere, path=ROOT)
    assert (installed.returncode, installed.stderr) == (0, "")
    assert "image_size: 256" in installed.stdout
    assert installed.stdout == checkout.stdout


def test_the_installed_package_has_its_studies(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)  # noqa: S202  # our own archive, made above
    elsewhere.mkdir()
    done = run(["-m", "brainseg.sweep", "plan", "quick"], cwd=elsewhere, path=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("quick: 12 trials of 6 epochs")


@pytest.mark.heavy
def test_the_command_lists_its_commands(tmp_path: Path) -> None:
    shown = run(["-m", "brainseg", "--help"], cwd=tmp_path)
    assert shown.returncode == 0
    assert [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")][:13] == [
        "train",
        "evaluate",
        "predict",
        "compare",
        "report",
        "gallery",
        "register",
        "serve",
        "export",
        "plan",
        "sweep",
        "data",
        "tracking",
    ]


@pytest.mark.heavy
def test_the_command_hands_over_to_its_commands(tmp_path: Path) -> None:
    short = run(["-m", "brainseg", "train", "--cfg", "job", "seed=7"], cwd=tmp_path)
    long = run(["-m", "brainseg.train", "--cfg", "job", "seed=7"], cwd=tmp_path)
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert "seed: 7" in short.stdout


@pytest.mark.heavy
def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    done = run(["-m", "brainseg", "trian"], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: trian is no command; the commands are train, ")
    assert done.stderr.count("\n") == 1


SLICES = {key: value for key, value in TINY.items() if key != "data.phantom_patients"}
STUDY = {
    "metric": "val_dice_image",
    "direction": "maximize",
    "trials": 2,
    "workers": 1,
    "overrides": [f"{key}={value}" for key, value in (TINY | {"train.threads": 1}).items()],
    "baseline": {"model.dropout": 0.1},
    "space": {"model.dropout": {"type": "float", "low": 0.0, "high": 0.5}},
    "sampler": {"name": "random", "seed": 0},
}


def called(command: list[str], folder: Path) -> str:
    """What a command prints that runs in the folder, without this checkout among the places to import from."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BRAINSEG_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def lowest() -> set[tuple[str, Version]]:
    """The packages that pyproject.toml asks for, with the lowest versions that it allows."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bounds = [(each.name, part) for each in map(Requirement, needed) for part in each.specifier]
    return {(name, Version(part.version)) for name, part in bounds if part.operator == ">="}


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(7200)  # gigabytes are installed
@pytest.mark.parametrize(
    ("pattern", "resolution"),
    [pytest.param("*.tar.gz", "lowest-direct", id="lowest"), pytest.param("*.whl", "highest", id="newest")],
)
def test_what_is_shipped_runs_in_an_environment_of_its_own(
    built: Path, tmp_path: Path, pattern: str, resolution: str
) -> None:
    uv, python = [sys.executable, "-m", "uv"], str(tmp_path / "environment" / "bin" / "python")
    called([*uv, "venv", "--python", sys.executable, "environment"], tmp_path)
    # Old versions have no wheels for a new Python; ANTLR's runtime has none at all.
    wheels = ["--only-binary", ":all:", "--no-binary", "antlr4-python3-runtime"]
    if pattern.endswith(".tar.gz"):
        wheels += ["--no-binary", "brainseg"]
    # The lowest versions are taken of what is asked for here, and not of what that asks for in turn.
    asked = ["--resolution", resolution, "-r", str(ROOT / "pyproject.toml"), *map(str, built.glob(pattern))]
    called([*uv, "pip", "install", "--python", python, *wheels, *asked], tmp_path)
    listed = json.loads(called([*uv, "pip", "list", "--python", python, "--format", "json"], tmp_path))
    versions = {(each["name"], Version(each["version"])) for each in listed}
    assert ("brainseg", Version(brainseg.__version__)) in versions
    if resolution == "lowest-direct" and sys.version_info < (3, 12):
        assert lowest() - versions == set()  # a bound that others exceed hasn't been tried

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")

    def command(*words: str) -> str:
        return called([python, "-m", *words], folder)

    assert command("brainseg.data", "phantom", "slices", "--patients", "8").startswith("slices: ")
    command("brainseg.train", "data=folder", "data.root=slices", *(f"{key}={value}" for key, value in SLICES.items()))
    (run,) = json.loads(command("brainseg.compare", "--json", "-"))["runs"]
    command("brainseg.predict", run["run_id"], "slices/images", "-o", "masks")
    images = {path.name for path in (folder / "slices" / "images").iterdir()}
    assert images
    assert images <= {path.name for path in (folder / "masks").rglob("*.png")}
    assert "2 of 2 trials finished: 2 complete" in command("brainseg.sweep", "run", "tiny.yaml")


@pytest.mark.slow
@pytest.mark.heavy
def test_the_lowest_versions_of_all_extras_fit_together(tmp_path: Path) -> None:
    words = ["pip", "compile", "--quiet", "--all-extras", "--resolution", "lowest-direct", str(ROOT / "pyproject.toml")]
    assert "tensorflow==" in called([sys.executable, "-m", "uv", *words], tmp_path)
