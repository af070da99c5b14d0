"""Finds lines of a config file that seem to hold a password; it says where, never what.

A warning only, so it is made to be right about docker-compose.yml, .env, INI, TOML, YAML and Python, and quiet about
references (`${DB_PASSWORD}`, `os.getenv(…)`, `/run/secrets/…`), type annotations, and numbers of seconds or tokens.
"""

from __future__ import annotations

import re

# The word stands at the name's end: SECRET_KEY and DB_PASSWORD, but not TOKEN_EXPIRE_MINUTES or PASSWORD_FILE.
_NAME = (
    r"[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credential|api[_-]?key|access[_-]?key"
    r"|secret[_-]?key|private[_-]?key|encryption[_-]?key)"
)
_QUOTED = re.compile(rf"""(?i)(?<![\w.-]){_NAME}["']?\s*(?::\s*[\w.\[\]| ]+\s*=|[:=])\s*[rbfu]?["']([^"'\s]+)["']""")
_BARE = re.compile(rf"""(?i)(?<![\w.-]){_NAME}\s*[:=]\s*([^\s"'#,;][^\s#,;]*)""")
_URL = re.compile(r"""(?i)\b[a-z][a-z0-9+.-]*://[^\s/:@"']*:([^\s/@"']+|\$\{[^}]*\})@""")
_DEFAULT = re.compile(r"\$\{\w+:?-([^}]+)\}")
_REFERENCE = re.compile(r"(?i)^(?:\$|<|\{|%|/|\*+$|x{3,}$|null$|none$|true$|false$|~$|!|&)")
_PLACEHOLDER = re.compile(r"(?i)^(?:your|change|replace|example|placeholder|todo|secret$|password$|\.\.\.|insert|my)")


def password_lines(name: str, text: str) -> tuple[int, ...]:
    """The numbers (from 1) of lines in the file `name` that seem to hold a literal password."""
    base = name.rsplit("/", 1)[-1].lower()
    template = base.endswith((".example", ".sample", ".template"))
    python = base.endswith((".py", ".pyi"))
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        values = [match[1] for match in _QUOTED.finditer(line)]
        values += [match[1] for match in _URL.finditer(line)]
        if not python:
            values += [match[1] for match in _BARE.finditer(line)]
        if any(_literal(value, template) for value in values):
            found.append(number)
    return tuple(found)


def _literal(value: str, template: bool) -> bool:
    # Compose's ${NAME:-default} is a reference that carries a literal.
    default = _DEFAULT.search(value)
    if default is not None:
        value = default[1]
    if not value or _REFERENCE.match(value):
        return False
    return not (template and _PLACEHOLDER.match(value))
