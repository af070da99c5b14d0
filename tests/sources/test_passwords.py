from __future__ import annotations

import pytest

from resurgam.sources.passwords import password_lines


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("docker-compose.yml", "      POSTGRES_PASSWORD: hunter2"),
        ("docker-compose.yml", '      - "POSTGRES_PASSWORD=hunter2"'),
        ("docker-compose.yml", "      POSTGRES_PASSWORD: ${DB_PASSWORD:-hunter2}"),
        ("docker-compose.yml", "      DATABASE_URL: postgresql://app:hunter2@db:5432/x"),
        ("docker-compose.yml", "      command: redis-server --password=hunter2"),
        ("settings.ini", "api_key = abc123"),
        ("settings.toml", 'secret_key = "abc123"'),
        ("settings.json", '  "token": "abc123",'),
        ("backend/config.py", 'SECRET_KEY = "abc123"'),
        ("backend/config.py", 'db_password: str = "hunter2"'),
        ("backend/config.py", 'connect(host="x", password="hunter2")'),
        (".env.example", "DB_PASSWORD=hunter2"),
        ("docker-compose.yml", "# POSTGRES_PASSWORD: changeme"),
    ],
)
def test_a_literal_password_is_found(name: str, line: str) -> None:
    assert password_lines(name, f"first line\n{line}\nlast\n") == (2,)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("docker-compose.yml", "      POSTGRES_PASSWORD: ${DB_PASSWORD}"),
        ("docker-compose.yml", "      POSTGRES_PASSWORD: ${DB_PASSWORD:?must be set}"),
        ("docker-compose.yml", "      POSTGRES_PASSWORD_FILE: /run/secrets/db"),
        ("docker-compose.yml", "      secret: /run/secrets/db"),
        ("docker-compose.yml", "    secrets:"),
        ("docker-compose.yml", "      DATABASE_URL: postgresql://app:${DB_PASSWORD}@db:5432/x"),
        ("docker-compose.yml", "      URL: http://localhost:8000/x@y"),
        ("backend/config.py", 'password = os.getenv("DB_PASSWORD")'),
        ("backend/config.py", "    password: str"),
        ("backend/config.py", "ACCESS_TOKEN_EXPIRE_MINUTES = 30"),
        ("settings.ini", "password ="),
        (".env.example", "DB_PASSWORD=your_secure_password"),
        (".env.example", "DB_PASSWORD=changeme"),
        ("requirements.txt", "token-bucket==0.3"),
    ],
)
def test_references_and_placeholders_are_not(name: str, line: str) -> None:
    assert password_lines(name, line) == ()
