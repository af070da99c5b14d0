"""The sample application's folder: configuration, report templates and uploads, the same for the same seed.

Modes, modification times (to the microsecond) and names are part of the sample: a restore has to bring them back.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from resurgam.demo.sample_rows import TEMPLATES

# Stands in the sample's `.env`; no archive may ever hold it.
ENV_SECRET = "correct-horse-battery-staple-4711"  # noqa: S105
_EPOCH_NS = 1_735_689_600 * 1_000_000_000
_YEAR_NS = 360 * 86_400 * 1_000_000_000
_WORDS = b"lung liver nodule stable contrast series axial coronal normal lesion report findings patient image "

_CONFIGURATION = {
    ".env.example": "# Copy to .env and fill in\nDB_PASSWORD=\nSECRET_KEY=\n",
    ".env": f"DB_PASSWORD={ENV_SECRET}\nSECRET_KEY={ENV_SECRET}\n",
    "docker-compose.yml": "services:\n  backend:\n    build: .\n  postgres:\n    image: pgvector/pgvector:pg16\n",
    "requirements.txt": "fastapi\npsycopg[binary]\npgvector\n",
    "backend/config.py": '"""Configuration of the sample application."""\n\nPAGE_SIZE = 50\nLANGUAGE = "en"\n',
}
_ODD_NAMES = (
    "Befund Müller.txt",
    "日本語の画像.dcm",
    "e\u0301tude.txt",
    "two  spaces ",
    "-rf",
    "a'b\"c$d.txt",
    "naïve\nline",
)


def create_files(folder: Path, reports: int, rng: random.Random) -> int:
    """Make the application's folder; returns the number of regular files, a hard link among them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _CONFIGURATION.items():
        _write(folder / name, text.encode(), rng, 0o600 if name == ".env" else 0o644)
    templates = folder / "backend" / "templates"
    for number in range(1, TEMPLATES + 1):
        _write(templates / f"template_{number:02d}.html", _text(rng, 2_000), rng)
    (templates / "drafts").mkdir()
    count = len(_CONFIGURATION) + TEMPLATES + _create_uploads(folder / "uploads", max(20, reports // 10), rng)
    _set_folder_times(folder, rng)
    return count


def _create_uploads(uploads: Path, number_of_files: int, rng: random.Random) -> int:
    made = 0
    for number in range(number_of_files):
        # Scans hardly compress, texts do: as in a real upload folder.
        scan = number % 3 == 0
        content = _scan(rng, rng.randrange(1_000, 40_000)) if scan else _text(rng, rng.randrange(200, 6_000))
        place = uploads / "2025" / f"{number % 12 + 1:02d}" / f"{number:06d}.{'dcm' if scan else 'txt'}"
        _write(place, content, rng, rng.choice((0o644, 0o640, 0o600, 0o755)))
        made += 1
    for name in _ODD_NAMES:
        _write(uploads / "odd names" / name, _text(rng, 300), rng)
        made += 1
    _write(uploads / "empty.txt", b"", rng, 0o444)
    _write(os.fsdecode(os.fsencode(uploads) + b"/latin-1 \xe9\xe8.txt"), _text(rng, 100), rng)
    os.link(uploads / "2025" / "01" / "000000.dcm", uploads / "same scan.dcm")
    (uploads / "incoming" / "empty").mkdir(parents=True)
    (uploads / "incoming").chmod(0o750)
    for name, target in (("latest", "2025/12"), ("missing target", "no such file")):
        (uploads / name).symlink_to(target)
        os.utime(uploads / name, ns=(_EPOCH_NS, _EPOCH_NS), follow_symlinks=False)
    return made + 3


def _write(path: Path | str, content: bytes, rng: random.Random, mode: int = 0o644) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(mode)
    moment = _EPOCH_NS + rng.randrange(_YEAR_NS // 1000) * 1000
    os.utime(place, ns=(moment, moment))


def _set_folder_times(folder: Path, rng: random.Random) -> None:
    """Last of all, and from the leaves up: making a name in a folder changes its time."""
    for place, names, _ in sorted(os.walk(folder, topdown=False)):
        names.sort()
        moment = _EPOCH_NS + rng.randrange(_YEAR_NS // 1000) * 1000
        os.utime(place, ns=(moment, moment))


def _text(rng: random.Random, size: int) -> bytes:
    start = rng.randrange(len(_WORDS))
    words = bytearray(_WORDS[start:])
    while len(words) < size:
        words += b"%d mm " % rng.randrange(1000)
        words += _WORDS[rng.randrange(60) :]
    return bytes(words[:size])


def _scan(rng: random.Random, size: int) -> bytes:
    return b"DICM" + rng.randbytes(size)
