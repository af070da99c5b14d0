"""Rows for the sample application: realistic, the same for the same seed, and quick to make.

Every function yields blocks of PostgreSQL's COPY text format (tab between columns, `\\N` for NULL, backslash
escapes), each block some hundred rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

EMBEDDING_SIZE = 64
TEMPLATES = 24
_BLOCK = 500
_START = datetime(2025, 1, 1, tzinfo=UTC)
_MODALITIES = ("CT", "MR", "US", "XR", "NM", "MG")
_STATUSES = ("draft", "preliminary", "final", "final", "final", "amended")
_GIVEN = ("Anna", "Björn", "Chloé", "Dmitri", "Eşref", "Fatima", "Giulia", "Hana", "Igor", "Jürgen", "Kaito", "Łucja")
_FAMILY = ("Müller", "O'Brien", "García", "Nguyễn", "Smith", "Øberg", "Иванов", "佐藤", "da Silva", "Kowalski")
_ORGANS = (
    "liver", "spleen", "pancreas", "left kidney", "right kidney", "gallbladder", "aorta", "heart", "left lung",
    "right lung", "mediastinum", "thyroid", "brain stem", "cerebellum", "lumbar spine", "left femur", "right hip",
)  # fmt: skip
_QUALITIES = (
    "is normal in size and attenuation", "shows no focal lesion", "is mildly enlarged", "appears unremarkable",
    "demonstrates a small hypodense focus", "shows patchy ground-glass opacities", "is displaced to the right",
    "contains a calcified granuloma", "shows moderate degenerative change", "enhances homogeneously",
)  # fmt: skip
_REMARKS = (
    "No free fluid.", "Follow-up in six months is suggested.", "Compared with the previous examination, stable.",
    "Clinical correlation is recommended.", "No evidence of acute disease.", "Incidental finding, likely benign.",
    "Limited by motion artefacts.", "Contrast was well tolerated.", "The remainder is without abnormality.",
)  # fmt: skip


def _blocks(rows: Iterator[str]) -> Iterator[bytes]:
    block: list[str] = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield "".join(block).encode()
            block.clear()
    if block:
        yield "".join(block).encode()


def _moment(rng: random.Random, days: int = 360) -> str:
    return f"{_START + timedelta(microseconds=rng.randrange(days * 86_400_000_000)):%Y-%m-%d %H:%M:%S.%f}+00"


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"


def users(rng: random.Random, count: int) -> Iterator[bytes]:
    """Columns id, email, full_name, role, password_hash, created_at."""
    roles = ("radiologist", "resident", "admin")

    def rows() -> Iterator[str]:
        for number in range(1, count + 1):
            secret = f"$argon2id$v=19$m=65536,t=3,p=4${rng.getrandbits(96):024x}${rng.getrandbits(256):064x}"
            name = _person(rng)
            yield f"{number}\tUser{number}@Clinic.example\t{name}\t{rng.choice(roles)}\t{secret}\t{_moment(rng)}\n"

    return _blocks(rows())


def templates(rng: random.Random, users_count: int) -> Iterator[bytes]:
    """Columns id, name, modality, body, author_id."""

    def rows() -> Iterator[str]:
        for number in range(1, TEMPLATES + 1):
            organ = rng.choice(_ORGANS)
            body = rf"Technique: {{{{technique}}}}\nFindings:\n\tThe {organ} {{{{finding}}}}.\r\nC:\\scans\\{number}"
            author = rng.randint(1, users_count) if number % 5 else r"\N"
            yield f"{number}\t{organ.title()} {number}\t{rng.choice(_MODALITIES)}\t{body}\t{author}\n"

    return _blocks(rows())


def _sentence(rng: random.Random) -> str:
    return f"The {rng.choice(_ORGANS)} {rng.choice(_QUALITIES)}"


def reports(rng: random.Random, count: int, users_count: int) -> Iterator[bytes]:
    """Columns id, accession, patient_name, modality, status, findings, impression, measurements, dose_mgy,
    author_id, template_id, created_at. About 1.2 kB each."""
    phrases = [_sentence(rng) for _ in range(400)]

    def rows() -> Iterator[str]:
        for number in range(1, count + 1):
            pieces = rng.choices(phrases, k=14)
            sizes = rng.choices(range(1, 2000), k=14)
            findings = r"\n".join(
                f"{piece}, measuring {size / 10} mm. {remark}"
                for piece, size, remark in zip(pieces, sizes, rng.choices(_REMARKS, k=14), strict=True)
            )
            extra = json.dumps({"longest_mm": sizes[0] / 10, "series": sizes[1], "note": "naïve — 画像"})
            dose = "NaN" if number % 97 == 0 else r"\N" if number % 11 == 0 else f"{rng.random() * 30!r}"
            template = rng.randint(1, TEMPLATES) if number % 4 else r"\N"
            yield (
                f"{number}\t{rng.choice(_MODALITIES)}{number:08d}\t{_person(rng)}\t{rng.choice(_MODALITIES)}\t"
                f"{rng.choice(_STATUSES)}\t{findings}\t{pieces[0]}. {pieces[1]}.\t{_copy_text(extra)}\t{dose}\t"
                f"{rng.randint(1, users_count)}\t{template}\t{_moment(rng)}\n"
            )

    return _blocks(rows())


def _copy_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def notifications(rng: random.Random, reports_count: int, users_count: int) -> Iterator[bytes]:
    """Columns id, user_id, report_id, kind, payload, read_at; one for every second report."""

    def rows() -> Iterator[str]:
        for number in range(1, reports_count // 2 + 1):
            read = _moment(rng) if number % 3 else r"\N"
            payload = rf'{{"channel": "mail", "text": "Report \\"{number}\\" is ready"}}' if number % 7 else r"\N"
            yield f"{number}\t{rng.randint(1, users_count)}\t{number * 2}\tready\t{payload}\t{read}\n"

    return _blocks(rows())


def similar_cases(rng: random.Random, reports_count: int, vectors: bool) -> Iterator[bytes]:
    """Columns report_id, similar_id, similarity, embedding; one for each report."""
    numbers = [f"{rng.gauss(0, 0.25):.6f}" for _ in range(65_536)]
    opening, closing = ("[", "]") if vectors else ("{", "}")

    def rows() -> Iterator[str]:
        for number in range(1, reports_count + 1):
            embedding = ",".join(rng.choices(numbers, k=EMBEDDING_SIZE))
            similar = rng.randint(1, reports_count)
            yield f"{number}\t{similar}\t{rng.random():.4f}\t{opening}{embedding}{closing}\n"

    return _blocks(rows())


def access_log(rng: random.Random, reports_count: int, users_count: int) -> Iterator[bytes]:
    """Columns at, user_id, report_id, action; some lie outside the year, in the default partition."""
    actions = ("view", "print", "export", "sign")

    def rows() -> Iterator[str]:
        for number in range(reports_count):
            report = rng.randint(1, reports_count) if number % 9 else r"\N"
            yield f"{_moment(rng, 380)}\t{rng.randint(1, users_count)}\t{report}\t{rng.choice(actions)}\n"

    return _blocks(rows())


def odd_names() -> Iterator[bytes]:
    """All four columns: the values that naive dumpers lose."""
    yield (
        "\\\\.\t\\\\N\t{1.50,NaN,NULL,-0}\tinfinity\n"
        "empty\t\t{}\t0044-03-15 12:00:00 BC\n"
        "null\t\\N\t\\N\t\\N\n"
        "control\t\\x01\\v\\b\\f -- ; ' \" $$ \\\\connect\t{1e-30,99999999999999999999.9999}\t2025-02-28 23:59:59\n"
        "unicode\t𝔘𝔫𝔦𝔠𝔬𝔡𝔢 e\u0301 \u202e rtl\t{{1,2},{3,4}}\tepoch\n"
    ).encode()
