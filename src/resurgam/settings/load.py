"""The assembly of the settings, and the rules between them.

Reads the environment it is given and at most two files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resurgam.counting import count_text
from resurgam.errors import SettingsError
from resurgam.settings import variables as v
from resurgam.settings.connection import read_connection, read_place
from resurgam.settings.encryption import read_encryption
from resurgam.settings.layers import Layer, Reader, did_you_mean, dotenv_layer, environment_layer, toml_layer
from resurgam.settings.load_repository import read_repository
from resurgam.settings.load_service import read_service
from resurgam.settings.model import ConfigFile, FileTree, Settings
from resurgam.settings.parse import quoted
from resurgam.settings.table import Variable

CONFIG_VARIABLE = "RESURGAM_CONFIG"
CONFIG_NAME = "resurgam.toml"
_TREE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def load_settings(environ: Mapping[str, str], *, folder: Path | None = None) -> Settings:
    """The settings from `environ` (as os.environ) and the files that it leads to.

    `folder` stands for the current folder, where resurgam.toml is looked for and where a relative APP_DIR
    starts. Raises SettingsError that names everything that is wrong, without any secret.
    """
    here = Path(folder) if folder is not None else Path.cwd()
    here = _absolute(here, Path.cwd())
    problems: list[str] = []
    warnings: list[str] = []
    environment = environment_layer(environ)
    config, config_path = _find_config(environment, here, problems)
    app_dir = _app_dir(environment, config, config_path, here)
    dotenv = dotenv_layer(app_dir / ".env", environ, problems, warnings)
    layers = tuple(layer for layer in (environment, dotenv, config) if layer is not None)
    reader = Reader(layers, app_dir, problems, warnings)
    reader.value(v.APP_DIR)  # a wrong one is noted
    _warn_about_names(reader, dotenv, app_dir)
    settings = _build(reader, environment, app_dir, config_path, dotenv)
    if reader.problems:
        count = count_text(len(reader.problems), "setting is", "settings are")
        raise SettingsError(
            f"{count} wrong and nothing was touched: " + " ".join(reader.problems),
            "Correct the named settings; docs/settings.md describes each, `resurgam doctor` checks them.",
        )
    return settings


def _find_config(environment: Layer, here: Path, problems: list[str]) -> tuple[Layer | None, Path | None]:
    """RESURGAM_CONFIG, else ./resurgam.toml, else APP_DIR/resurgam.toml; the first that exists is the only
    one read.
    """
    named = environment.values.get(CONFIG_VARIABLE)
    if isinstance(named, str):
        path = _absolute(Path(named), here)
        layer = toml_layer(path, required=True, problems=problems)
        return layer, path if layer else None
    for path in (here / CONFIG_NAME, _app_dir(environment, None, None, here) / CONFIG_NAME):
        try:
            there = path.exists()
        except PermissionError:
            # `su postgres` within /root: a current folder that may not be entered says nothing. APP_DIR must be open.
            there = False
            if path.parent != here:
                problems.append(f"{path.parent} (APP_DIR) may not be entered by this user.")
        if there:
            layer = toml_layer(path, required=False, problems=problems)
            return layer, path if layer else None
    return None, None


def _app_dir(environment: Layer, config: Layer | None, config_path: Path | None, here: Path) -> Path:
    """APP_DIR as far as it is known before .env, which lies in it, can be read."""
    given = environment.values.get(v.APP_DIR.name)
    if isinstance(given, str):
        return _absolute(Path(given), here)
    given = config.values.get(v.APP_DIR.name) if config else None
    if isinstance(given, str) and config_path is not None:
        return _absolute(Path(given), config_path.parent)
    return Path(v.APP_DIR.default)


def _absolute(path: Path, base: Path) -> Path:
    """Absolute and without `.` and `..`, by the text alone: no link is resolved, nothing needs to exist."""
    return Path(os.path.normpath(base / path))


def _build(
    reader: Reader, environment: Layer, app_dir: Path, config_path: Path | None, dotenv: Layer | None
) -> Settings:
    def path(variable: Variable[str], default: Path) -> Path:
        given = reader.optional(variable)
        return default if given is None else _absolute(Path(given), app_dir)

    def path_or_none(variable: Variable[str]) -> Path | None:
        given = reader.optional(variable)
        return None if given is None else _absolute(Path(given), app_dir)

    backup_dir = path(v.BACKUP_DIR, Path(v.BACKUP_DIR.default))
    days, most = reader.value(v.BACKUP_RETENTION_DAYS), reader.value(v.MAX_BACKUPS)
    encryption = read_encryption(reader)
    settings = Settings(
        app_name=reader.value(v.APP_NAME),
        app_dir=app_dir,
        backup_enabled=reader.value(v.BACKUP_ENABLED),
        backup_dir=backup_dir,
        backup_retention_days=days,
        max_backups=most,
        backup_keep_daily=reader.value(v.BACKUP_KEEP_DAILY),
        backup_keep_weekly=reader.value(v.BACKUP_KEEP_WEEKLY),
        backup_keep_monthly=reader.value(v.BACKUP_KEEP_MONTHLY),
        database=read_connection(reader, environment),
        remote_backup_enabled=reader.value(v.REMOTE_BACKUP_ENABLED),
        remote_backup_path=path_or_none(v.REMOTE_BACKUP_PATH),
        remote_backup_retention_days=reader.optional(v.REMOTE_BACKUP_RETENTION_DAYS) or days,
        remote_max_backups=reader.optional(v.REMOTE_MAX_BACKUPS) or most,
        backup_config_files=_config_files(reader, app_dir),
        backup_file_trees=_file_trees(reader, app_dir),
        backup_exclude=reader.value(v.BACKUP_EXCLUDE),
        backup_state_file=path(v.BACKUP_STATE_FILE, backup_dir / "state.sqlite"),
        backup_log_file=path(v.BACKUP_LOG_FILE, app_dir / "logs" / "backup.log"),
        backup_dump_timeout=reader.value(v.BACKUP_DUMP_TIMEOUT),
        backup_lock_timeout=reader.value(v.BACKUP_LOCK_TIMEOUT),
        backup_connect_timeout=reader.value(v.BACKUP_CONNECT_TIMEOUT),
        backup_pg_bin=path_or_none(v.BACKUP_PG_BIN),
        restore_connections=reader.optional(v.RESTORE_CONNECTIONS) or min(4, os.cpu_count() or 1),
        restore_keep=reader.value(v.RESTORE_KEEP),
        restore_safety_backup=reader.value(v.RESTORE_SAFETY_BACKUP),
        restore_database=read_place(reader, v.RESTORE_DATABASE_URL),
        encryption=encryption,
        repository=read_repository(reader, encryption),
        **read_service(reader),
        config_path=config_path,
        env_path=app_dir / ".env" if dotenv is not None else None,
        secret_files=tuple(reader.secret_files),
        warnings=tuple(reader.warnings),
        unavailable=tuple(name for name in sorted(v.UNAVAILABLE) if reader.is_set(name)),
    )
    _check_together(settings, reader)
    return replace(settings, warnings=(*settings.warnings, *_unrestorable(settings)))


def _unrestorable(settings: Settings) -> Iterator[str]:
    """Trees that can be saved, and that a restore will refuse to swap: told now rather than on that day."""
    ours = {
        "BACKUP_DIR": settings.backup_dir,
        "BACKUP_STATE_FILE": settings.backup_state_file,
        "BACKUP_LOG_FILE": settings.backup_log_file,
        "REMOTE_BACKUP_PATH": settings.remote_backup_path,
        "BACKUP_REPOSITORY": settings.repository.folder if settings.repository else None,
    }
    for tree in settings.backup_file_trees:
        inside = [name for name, path in ours.items() if path is not None and path.is_relative_to(tree.path)]
        inside += [
            f"the tree {other.name}"
            for other in settings.backup_file_trees
            if other is not tree and other.path.is_relative_to(tree.path)
        ]
        if inside:
            yield (
                f"Inside the file tree {tree.name} ({tree.path}) lies {' and '.join(inside)}: it is backed up, but a "
                "restore of it will be refused until one of them is moved elsewhere."
            )


def _check_together(settings: Settings, reader: Reader) -> None:
    kept = settings.backup_keep_daily + settings.backup_keep_weekly + settings.backup_keep_monthly
    for name, most in (
        ("MAX_BACKUPS", settings.max_backups),
        ("REMOTE_MAX_BACKUPS", settings.remote_max_backups),
    ):
        if most < kept and (name == "MAX_BACKUPS" or reader.is_set(name)):
            reader.complain(name, f"is {most}, below the sum of the BACKUP_KEEP_* settings, {kept}")
    if settings.remote_backup_enabled and not reader.is_set("REMOTE_BACKUP_PATH"):
        reader.complain("REMOTE_BACKUP_PATH", "must be set, since REMOTE_BACKUP_ENABLED is true")
    if settings.remote_backup_path == settings.backup_dir:
        reader.complain("REMOTE_BACKUP_PATH", "must differ from BACKUP_DIR")
    if settings.repository is not None and settings.repository.folder == settings.backup_dir:
        reader.complain("BACKUP_REPOSITORY", "must differ from BACKUP_DIR; it may be a folder in it")


def _config_files(reader: Reader, app_dir: Path) -> tuple[ConfigFile, ...]:
    """The list, each relative to APP_DIR.

    One outside is refused rather than stored by its basename: a restore puts config files back by their place
    in APP_DIR, and must neither write outside of it nor let two files of one name replace each other.
    """
    configured = reader.is_set(v.BACKUP_CONFIG_FILES.name)
    files: dict[str, ConfigFile] = {}
    for item in reader.value(v.BACKUP_CONFIG_FILES):
        pattern = os.path.relpath(_absolute(Path(item), app_dir), app_dir)
        if pattern == "." or pattern == ".." or pattern.startswith("../"):
            reader.complain(
                v.BACKUP_CONFIG_FILES.name,
                f"names {quoted(item)}, which is not a file in APP_DIR ({app_dir}); "
                "a folder elsewhere can be one of BACKUP_FILE_TREES",
            )
        elif Path(pattern).name == ".env":
            reader.warnings.append(f"BACKUP_CONFIG_FILES names {pattern}, which is never archived (secrets).")
        else:
            files.setdefault(pattern, ConfigFile(pattern, configured))
    return tuple(files.values())


def _file_trees(reader: Reader, app_dir: Path) -> tuple[FileTree, ...]:
    configured = reader.is_set(v.BACKUP_FILE_TREES.name)
    trees: dict[str, FileTree] = {}
    for item in reader.value(v.BACKUP_FILE_TREES):
        name, separator, place = (part.strip() for part in item.partition("="))
        if not separator or not _TREE_NAME.fullmatch(name):
            name, place = "", item
        if not place:
            reader.complain(v.BACKUP_FILE_TREES.name, f"names no folder in {quoted(item)}")
            continue
        path = _absolute(Path(place), app_dir)
        name = name or path.name
        if not name:
            reader.complain(v.BACKUP_FILE_TREES.name, f"must give {quoted(item)} a name: NAME={item}")
        elif name in trees:
            other = trees[name].path
            reader.complain(
                v.BACKUP_FILE_TREES.name,
                f"has two trees of the name {quoted(name)} ({other} and {path}); give one another by NAME=PATH",
            )
        else:
            trees[name] = FileTree(name, path, configured)
    return tuple(trees.values())


def _warn_about_names(reader: Reader, dotenv: Layer | None, app_dir: Path) -> None:
    known = v.known_names()
    seen: set[str] = set()
    for layer in reader.layers:
        for name in sorted(layer.values):
            if name.startswith(("BACKUP_", "REMOTE_BACKUP_", "DRILL_")) and name not in known and name not in seen:
                seen.add(name)
                tail = did_you_mean(name, known) or "."
                reader.warnings.append(f"{name} (in {layer.label}) is not a setting and was ignored{tail}")
    if dotenv is None:
        return
    given = dotenv.values.get(v.APP_DIR.name)
    if isinstance(given, str) and _absolute(Path(given), app_dir) != app_dir:
        reader.warnings.append(f"APP_DIR in {dotenv.label} was ignored: that file was found by APP_DIR.")
    if CONFIG_VARIABLE in dotenv.values:
        reader.warnings.append(f"{CONFIG_VARIABLE} in {dotenv.label} was ignored: only the environment can set it.")
