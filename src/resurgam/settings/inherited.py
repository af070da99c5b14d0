"""What a program that we start is given of our environment: what it needs to run, and nothing that could be a secret.

/proc shows a process's environment to its user, a crash dump to more. So it is a list of what passes, not of what is
withheld: nobody can name in advance what an application keeps in its environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PASSES = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|TZDIR|TMPDIR|LANG|LC_[A-Z]+|LD_LIBRARY_PATH|PYTHON[A-Z]*|VIRTUAL_ENV"
    r"|XDG_[A-Z_]+|SSL_CERT_(FILE|DIR)|KRB5[A-Z_0-9]*|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY"
    r"|PG[A-Z]+|PGCONNECT_TIMEOUT|PGSSL(MIN|MAX)PROTOCOLVERSION|RESURGAM_[A-Z]+|FAKETIME[A-Z_]*|LD_PRELOAD"
)
_SECRET = frozenset({"PGPASSWORD", "PGSSLPASSWORD"})


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that pass."""
    return {name: value for name, value in environ.items() if _PASSES.fullmatch(name) and name not in _SECRET}
