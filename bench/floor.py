"""The least that any backup has to do: `pg_dump -f /dev/null`, and then reading every file.

Usage: python floor.py DATABASE APP. The connection comes from PG* variables.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(database: str, app: str) -> None:
    subprocess.run(["pg_dump", "-d", database, "-f", "/dev/null"], check=True)
    for tree in ("uploads", "backend/templates"):
        for folder, _, names in os.walk(os.path.join(app, tree)):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    with open(path, "rb", buffering=0) as stream:
                        while stream.read(1 << 20):
                            pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
