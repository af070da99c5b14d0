"""`python -m resurgam.api.openapi > docs/openapi.json`: the API's document, the same for every installation."""

from __future__ import annotations

import json
import sys
from typing import Any

from resurgam.api.app import create_app
from resurgam.service import Service

# Nothing of it is opened, nor shown in the document.
_SETTINGS = {"APP_DIR": "/app", "BACKUP_DIR": "/app/backups", "DB_NAME": "radiology_db", "DB_USER": "postgres"}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(Service.from_environment(_SETTINGS), _SETTINGS).openapi()


def main() -> int:
    """Print it."""
    sys.stdout.write(json.dumps(document(), indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
