"""The folders of configuration files, and what each group of them offers."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from hydra import initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource  # nothing public reads files
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from brainseg.config import GROUPS as KEY_GROUPS
from brainseg.config import OPTIONS, RunConfig
from brainseg.errors import ConfigError
from brainseg.parsing import ParseError, parse_yaml

CONFIG_NAME = "brainseg_config"
# Of `./conf`, which may be another Hydra project's: it counts if its defaults name CONFIG_NAME.
OWN_CONFIG = Path("conf", "config.yaml")
# What the files of conf/ start from: the dataclasses' defaults. Neither a file nor an option has this name.
BASE = "_base_"
SEARCH_PATH = "hydra.searchpath"  # Hydra's key for folders that come after all others
# Folders of conf/: the name of a file in them is an option, as in optimizer=sgd.
GROUPS = (*KEY_GROUPS, "experiment")
logger = logging.getLogger("brainseg")


class OwnFiles(FileConfigSource):
    """The user's files: as Hydra's own source of files, but what is in them is checked first."""

    @staticmethod
    def scheme() -> str:
        """What stands before `://` in a search path."""
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        """Called by Hydra. Raises ConfigError for a file that isn't YAML, or too much of it."""
        if not self.is_config(config_path):
            return super().load_config(config_path)  # which says so
        path = Path(self.path, self._normalize_file_name(config_path))
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        try:
            text = path.read_text(encoding="utf-8")
            result: ConfigResult = parse_yaml(text, load=lambda _: super(OwnFiles, self).load_config(config_path))
        except ParseError as error:
            raise ConfigError(f"{shown} {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{shown} can't be read ({error}); it must be a YAML file") from error
        with contextlib.suppress(OmegaConfBaseException):  # Hydra itself reports a search path that can't be read
            folders = OmegaConf.select(result.config, SEARCH_PATH)
            if OmegaConf.is_list(folders):
                OmegaConf.update(result.config, SEARCH_PATH, as_own(folders), merge=False)
        return result


def as_own(folders: Iterable[Any]) -> list[Any]:
    """A search path whose folders are read by `OwnFiles`; packages (`pkg://`) are code, and stay."""
    return [_as_own(folder) if isinstance(folder, str) else folder for folder in folders]


def _as_own(folder: str) -> str:
    scheme, _, path = folder.rpartition("://")
    return f"{OwnFiles.scheme()}://{path}" if scheme in ("", "file") else folder


class LocalConf(SearchPathPlugin):
    """Lets `./conf`, where it exists, come before the configuration that brainseg carries, and `added` after it."""

    added: ClassVar[Path | None] = None  # the folder of --config-dir, absolute

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Adds the folders; called by Hydra whenever it makes a search path."""
        if all(element.path.removeprefix("file://") != str(conf_folder()) for element in search_path.get_path()):
            return  # it is of another Hydra program in this process
        local = Path.cwd() / "conf"
        if local.is_dir():
            search_path.prepend(provider="local", path=f"{OwnFiles.scheme()}://{local}")
        if self.added is not None:
            search_path.append(provider="command-line", path=f"{OwnFiles.scheme()}://{self.added}")


def conf_folder() -> Path:
    """The configuration that brainseg carries: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def config_name() -> str:
    """What Hydra composes: `./conf/config.yaml` where that extends brainseg's own configuration, else the latter."""
    if not OWN_CONFIG.is_file():
        return CONFIG_NAME
    try:
        extends = CONFIG_NAME in parse_yaml(OWN_CONFIG.read_text(encoding="utf-8"))["defaults"]
    except (ParseError, UnicodeDecodeError, KeyError, TypeError):  # it isn't made for brainseg
        extends = False
    if extends:
        return OWN_CONFIG.stem
    _tell_once(f"{OWN_CONFIG} is left aside; it would count with {CONFIG_NAME} among its defaults")
    return CONFIG_NAME


@functools.cache
def _tell_once(text: str) -> None:
    logger.warning("%s", text)


def add_folder(folder: str) -> None:
    """Looks for files in this folder too, where neither `./conf` nor brainseg has one. Raises ConfigError for none."""
    if not Path(folder).is_dir():
        raise ConfigError(f"--config-dir must be a folder, got {folder}; name one that has the folders of conf/")
    LocalConf.added = Path(folder).absolute()


@functools.cache
def register_local_conf() -> None:
    """Makes Hydra know the defaults, and look into `./conf` first, for `freeze` and for `hydra.main` alike."""
    Plugins.instance().register(LocalConf)
    Plugins.instance().register(OwnFiles)
    # Plain dictionaries: nodes made of frozen dataclasses are read-only.
    defaults = OmegaConf.create(dataclasses.asdict(RunConfig()))
    for where in OPTIONS:  # what options there are depends on the part, which only the composed values tell
        OmegaConf.update(defaults, where, {}, merge=False)
        OmegaConf.set_struct(OmegaConf.select(defaults, where), False)
    for group in KEY_GROUPS:
        ConfigStore.instance().store(group=group, name=BASE, node=defaults.pop(group))
    ConfigStore.instance().store(name=BASE, node=defaults)


def options() -> dict[str, list[str]]:
    """The groups and what each can be set to, sorted."""
    register_local_conf()
    with in_conf():
        return {group: options_in(group) for group in sorted(GROUPS)}


def options_in(group: str) -> list[str]:
    """What the group can be set to; a file in a folder of its own as `folder/name`."""
    loader = GlobalHydra.instance().config_loader()
    folders = loader.get_group_options(group, ObjectType.GROUP)
    deeper = [f"{folder}/{option}" for folder in folders for option in options_in(f"{group}/{folder}")]
    return [*(option for option in loader.get_group_options(group) if option != BASE), *deeper]


@contextlib.contextmanager
def in_conf() -> Iterator[None]:
    """Within it Hydra composes from conf/; a Hydra that the caller has initialised is as it was afterwards."""
    hydra, version = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = hydra, version
