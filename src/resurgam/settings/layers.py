"""The places that settings come from, read once: the environment, APP_DIR/.env, resurgam.toml.

resurgam.toml can name programs to run, so it is refused where anyone but root and the present user could
have written it. APP_DIR/.env belongs to the application, whose user often is not the one that backs up (a
bind mount in a container); it is read all the same, and only a variable that names programs is refused from
one that others own.

A layer holds variable names in upper case; empty values are left out, for an empty string means "not set".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resurgam.settings.parse import Raw, T
from resurgam.settings.secret import Secret
from resurgam.settings.table import SecretVariable, Variable
from resurgam.settings.variables import SECRETS, known_names

_SECRET_FILE_LIMIT = 65536
_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One place. `label` names it in messages; `trusted`: only root or the present user can have written it."""

    label: str
    values: Mapping[str, Raw]
    trusted: bool = True


@dataclass(slots=True)
class Reader:
    """Takes values from the layers, highest first, and gathers every problem and warning on the way.

    `base` is where relative paths of secret files start; `secret_files` are those that were read.
    """

    layers: tuple[Layer, ...]
    base: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    secret_files: list[Path] = field(default_factory=list)

    def find(self, name: str) -> tuple[Raw, Layer] | None:
        """The raw value and its layer, or None if it stands nowhere."""
        for layer in self.layers:
            if name in layer.values:
                return layer.values[name], layer
        return None

    def is_set(self, name: str) -> bool:
        """Whether any layer has it."""
        return self.find(name) is not None

    def complain(self, name: str, why: str, layer: Layer | None = None) -> None:
        """Note a problem; `why` continues the sentence that the variable's name begins."""
        place = f" (in {layer.label})" if layer is not None else ""
        self.problems.append(f"{name}{place} {why}.")

    def optional(self, variable: Variable[T], name: str | None = None) -> T | None:
        """The value where one is set and right, else None; a wrong one is noted. `name`: read that one instead."""
        parsed = self._parsed(variable, name or variable.name)
        return parsed[0] if parsed else None

    def value(self, variable: Variable[T]) -> T:
        """The value, or the default where it is not set or wrong."""
        parsed = self._parsed(variable, variable.name)
        return parsed[0] if parsed else variable.parse(variable.default)

    def _parsed(self, variable: Variable[T], name: str) -> tuple[T] | None:
        # In a tuple, because None is what `none` parses to.
        found = self.find(name)
        if found is None:
            return None
        raw, layer = found
        if variable.names_programs and not layer.trusted:
            self.complain(
                variable.name,
                "names programs to run and others can write to that file; set it elsewhere",
                layer,
            )
            return None
        try:
            return (variable.parse(raw),)
        except ValueError as error:
            self.complain(name, str(error), layer)
            return None

    def secret(self, variable: SecretVariable) -> Secret | None:
        """The secret, itself or from its file. The higher layer wins; both in one layer are refused."""
        name, file_name = variable.name, f"{variable.name}_FILE"
        for layer in self.layers:
            direct, path = layer.values.get(name), layer.values.get(file_name)
            if direct is not None and path is not None:
                self.complain(name, f"and {file_name} are both set; keep one of them", layer)
                return None
            if isinstance(direct, tuple) or isinstance(path, tuple):
                self.complain(name if path is None else file_name, "must be one value, not a list", layer)
                return None
            if path is not None:
                return self._secret_file(file_name, self.base / path, layer)
            if direct is not None:
                return Secret(direct)
        return None

    def _secret_file(self, name: str, path: Path, layer: Layer) -> Secret | None:
        self.secret_files.append(path)
        try:
            with path.open("rb") as file:
                data = file.read(_SECRET_FILE_LIMIT + 1)
            text = data.decode("utf-8")
        except OSError as error:
            self.complain(name, f"names {path}, which can not be read: {error.strerror}", layer)
            return None
        except UnicodeDecodeError:
            self.complain(name, f"names {path}, which is not UTF-8 text", layer)
            return None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text or len(data) > _SECRET_FILE_LIMIT or "\0" in text:
            self.complain(name, f"names {path}, which is empty, too long or no text", layer)
            return None
        return Secret(text)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The process's variables; surrounding blanks are dropped except in secrets."""
    return Layer("the environment", _cleaned(environ))


def dotenv_layer(path: Path, environ: Mapping[str, str], problems: list[str], warnings: list[str]) -> Layer | None:
    """APP_DIR/.env as python-dotenv reads it, `${NAME}` and `${NAME:-default}` filled from itself and `environ`.

    None if there is none. A line that is no assignment is the application's affair: a warning, without its content.
    """
    try:
        with path.open(encoding="utf-8") as file:
            from dotenv.parser import parse_stream

            bindings = list(parse_stream(file))
            trusted = distrust(os.fstat(file.fileno())) is None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(f"{path} can not be read: {error.strerror}.")
        return None
    except UnicodeDecodeError:
        problems.append(f"{path} is not UTF-8 text.")
        return None
    values: dict[str, str] = {}
    for binding in bindings:
        if binding.error:
            warnings.append(f"Line {binding.original.line} of {path} is no assignment and was ignored.")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = _filled(binding.value, {**values, **environ})
    return Layer(str(path), _cleaned(values), trusted)


def toml_layer(path: Path, *, required: bool, problems: list[str]) -> Layer | None:
    """resurgam.toml, checked for its owner, its keys and its types; None if it is absent or refused.

    `required`: somebody named this file, so its absence is a problem.
    """
    import tomllib

    try:
        with path.open("rb") as file:
            doubt = distrust(os.fstat(file.fileno()))
            if doubt is not None:
                problems.append(f"{path} was not read: {doubt}.")
                return None
            table = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        if required:
            problems.append(f"RESURGAM_CONFIG names {path}, which does not exist.")
        return None
    except OSError as error:
        problems.append(f"{path} can not be read: {error.strerror}.")
        return None
    except UnicodeDecodeError:
        problems.append(f"{path} is not UTF-8 text.")
        return None
    except tomllib.TOMLDecodeError as error:
        # Its message gives a place and the offending character, never a whole value.
        problems.append(f"{path} is not valid TOML: {error}.")
        return None
    return Layer(str(path), _cleaned(_checked(table, path, problems)))


def _checked(table: Mapping[str, object], path: Path, problems: list[str]) -> dict[str, Raw]:
    known = known_names()
    values: dict[str, Raw] = {}
    for key, value in table.items():
        name = key.upper()
        if key != key.lower() or name not in known:
            close = did_you_mean(key, {known_name.lower() for known_name in known})
            problems.append(f"{key} in {path} is not a setting{close or '.'}")
        elif name in SECRETS:
            problems.append(f"{key} in {path} is a secret, which may not stand there: use {key}_file.")
        elif isinstance(value, bool):
            values[name] = "true" if value else "false"
        elif isinstance(value, (int, float, str)):
            values[name] = str(value)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            values[name] = tuple(value)
        else:
            problems.append(f"{key} in {path} must be a text, a number, true or false, or a list of texts.")
    return values


def distrust(status: os.stat_result) -> str | None:
    """Why a file that can name programs to run is not believed; None if it is."""
    if status.st_uid not in (0, os.geteuid()):
        return "it belongs to another user, and it can name programs to run (chown it to yourself or root)"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others can write to it, and it can name programs to run (chmod go-w)"
    return None


def _cleaned(values: Mapping[str, Raw]) -> dict[str, Raw]:
    cleaned: dict[str, Raw] = {}
    for name, raw in values.items():
        value = raw.strip() if isinstance(raw, str) and name not in SECRETS else raw
        if value != "":
            cleaned[name] = value
    return cleaned


def _filled(value: str, names: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: names.get(match["name"]) or match["default"] or "", value)


def did_you_mean(name: str, known: set[str] | frozenset[str]) -> str:
    """`; did you mean X?`, or nothing where no name is close."""
    import difflib

    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return f"; did you mean {folded[close[0]]}?" if close else ""
