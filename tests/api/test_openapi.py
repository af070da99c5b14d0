"""The OpenAPI document: whole, up to date, good enough for a client, and no request within it gives a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import response_schema_conformance

from resurgam.api.openapi import document
from resurgam.api.requests import PruneRequest, RestoreRequest
from tests.api.calling import Api
from tests.clusters import soaking

ROOT = Path(__file__).parents[2]
OPERATIONS = [
    (path, method, operation) for path, methods in document()["paths"].items() for method, operation in methods.items()
]


def _examples(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "example")
        for value in node.values():
            yield from _examples(value)
    elif isinstance(node, list):
        for value in node:
            yield from _examples(value)


def test_the_document_in_docs_is_this_one() -> None:
    written = json.loads((ROOT / "docs/openapi.json").read_text())
    assert written == document(), "python -m resurgam.api.openapi > docs/openapi.json"


def test_every_operation_is_described() -> None:
    schemas = document()["components"]["schemas"]
    for path, method, operation in OPERATIONS:
        where = f"{method} {path}"
        assert operation["operationId"].isalnum() and operation["tags"] and operation["description"], where
        content = operation["responses"]["200"].get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is not None:
            reference = schema.get("$ref") or schema["items"]["$ref"]
            assert "example" in schemas[reference.rpartition("/")[2]], where
        if operation["security"]:
            assert operation["security"] == [{"bearer": []}], where
            for status in ("401", "403", "500", "503"):
                wanted = {"$ref": "#/components/schemas/Error"}
                assert operation["responses"][status]["content"]["application/json"]["schema"] == wanted, where
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert "HTTPValidationError" not in schemas


def test_examples_are_what_they_are_examples_of() -> None:
    import resurgam.api.schemas as backups
    import resurgam.api.schemas_jobs as jobs

    seen = 0
    for model in {**vars(backups), **vars(jobs), "r": RestoreRequest, "p": PruneRequest}.values():
        extra = getattr(model, "model_config", {}).get("json_schema_extra")
        if extra:
            model.model_validate(extra["example"])
            seen += 1
    assert seen > 15


# A whole backup each, or the file itself: a few are enough.
SLOW = {"createBackup", "createBackupSync", "downloadArchive", "verifyBackup", "pruneBackups"}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
def test_no_request_gives_a_server_error(with_backup: tuple[Api, str], mode: schemathesis.GenerationMode) -> None:
    """Within the document and against it; a restore is never confirmed by chance for a backup that is there."""
    api, _ = with_backup
    schema = schemathesis.openapi.from_dict(document())
    schema.app = _running(api)
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        few = operation.definition.raw["operationId"] in SLOW
        examples = (20 if few else 300) if soaking() else 1 if few else 8
        try:
            _try(api, operation.as_strategy(generation_mode=mode), examples)
        except Unsatisfiable:
            assert mode is schemathesis.GenerationMode.NEGATIVE  # it has nothing that could be wrong


def _running(api: Api) -> Any:
    """The application that runs already: each call would start and stop it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await api.client.app(scope, receive, send)

    return app


def _try(api: Api, cases: Any, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def attempt(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {api.tokens['admin']}"})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        case.validate_response(answer, checks=[response_schema_conformance])

    attempt()
