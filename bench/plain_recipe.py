"""The recipe that people write themselves, as one program: pg_dump to a file, copytree, tarfile `w:gz`.

Usage: python plain_recipe.py DATABASE APP TARGET. The connection comes from PG* variables. It does what the first
implementation of the manual did, at Python's default compression level (9).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path


def main(database: str, app: Path, target: Path) -> None:
    folder = target / "radiology_backup_20250104_143022"
    (folder / "files").mkdir(parents=True)
    subprocess.run(["pg_dump", "-d", database, "-f", folder / "database_20250104_143022.sql"], check=True)
    for tree in ("uploads", "backend/templates"):
        shutil.copytree(app / tree, folder / "files" / Path(tree).name, symlinks=True)
    with tarfile.open(target / f"{folder.name}.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
