"""`resurgam token`: who may call the API, and as what."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption, print_err
from resurgam.cli.wording import columns, printable
from resurgam.errors import UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from resurgam.catalog.tokens import TokenInfo


app = typer.Typer(name="token", help="Who may call the API, and as what.", no_args_is_help=True, rich_markup_mode=None)


class RoleChoice(StrEnum):
    """The roles, as `--role` takes them."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"


@app.command()
def create(
    role: Annotated[
        RoleChoice,
        typer.Option(help="viewer: reads health, lists, jobs. operator: backs up and verifies too. admin: everything."),
    ],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="How lists and the audit log call it.")] = None,
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it counts: 12h, 90d; none is for ever.")
    ] = "365d",
    json: JsonOption = False,
) -> int:
    """Make a token and print it, once.

    Only its SHA-256 is kept. An admin's token ends the bootstrap token.
    """
    from resurgam.catalog.audit import local_actor
    from resurgam.operations.access import create_token

    face = Face(json)
    lasting = duration(expires)
    with face.service() as service:
        folder = service.folder.path
        text, token = create_token(service.state, folder, local_actor(), role.value, name=name, expires=lasting)
    expires_at = None if token.expires_at is None else token.expires_at.isoformat()
    answer = {"success": True, "token": text, "id": token.id, "name": token.name, "role": token.role}
    face.answer({**answer, "expires_at": expires_at}, text)
    if not json:
        until = f"until {_moment_text(token.expires_at)}" if token.expires_at else "until it is revoked"
        print_err(f"{token.role} token {printable(token.name)} (id {token.id}), {until}. It is not shown again.")
    return exits.OK


@app.command("list")
def list_tokens(json: JsonOption = False) -> int:
    """List the tokens there are and were, the oldest first."""
    face = Face(json)
    with face.service() as service:
        tokens, now = service.state.tokens.all(), service.clock.now()
    face.answer([token.to_json(now) for token in tokens], _list_text(tokens, now))
    return exits.OK


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="As `resurgam token list` shows it.")],
    json: JsonOption = False,
) -> int:
    """End a token at once."""
    from resurgam.catalog.audit import local_actor
    from resurgam.operations.access import revoke_token

    face = Face(json)
    with face.service() as service:
        ended = revoke_token(service.state, service.folder.path, local_actor(), token)
    answer = {"success": True, "id": ended.id, "name": ended.name, "role": ended.role}
    face.answer(answer, printable(f"The {ended.role} token {ended.name} (id {ended.id}) counts no more."))
    return exits.OK


def duration(text: str) -> timedelta | None:
    """How long a token lasts; None from `none`. UsageError if it is neither that nor a duration."""
    from datetime import timedelta

    from resurgam.settings import parse

    try:
        seconds = parse.duration(text)
        if seconds is not None:
            return timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        pass
    else:
        # To a setting 0 means no limit; of a token nobody would expect that.
        if text.strip().lower() == "none":
            return None
    raise UsageError("--expires must be a duration such as 12h or 90d, or none; no token was made.", "--expires 90d")


def _list_text(tokens: tuple[TokenInfo, ...], now: datetime) -> str:
    if not tokens:
        return "There are no tokens. `resurgam token create --role admin` makes one."
    rows = [
        (
            token.id,
            printable(token.name),
            token.role,
            token.status(now),
            _moment_text(token.created_at),
            "never" if token.expires_at is None else _moment_text(token.expires_at),
            "never" if token.used_at is None else _moment_text(token.used_at),
        )
        for token in tokens
    ]
    return columns(("ID", "NAME", "ROLE", "STATUS", "MADE", "EXPIRES", "LAST USED"), rows)


def _moment_text(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
