"""What a row of the table of variables says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from resurgam.settings.parse import Raw, T_co


@dataclass(frozen=True, slots=True)
class Variable(Generic[T_co]):
    """A variable that is no secret.

    `default` is written as a user would write it; "" means that there is none or that it follows from another
    setting, which `shown` then says for the reader. `names_programs`: whoever may set it chooses what is
    executed.
    """

    name: str
    parse: Callable[[Raw], T_co]
    default: str
    meaning: str
    shown: str = ""
    names_programs: bool = False


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """A variable whose value is never shown; NAME_FILE names a file that holds it."""

    name: str
    meaning: str
