"""`resurgam notify`: do messages arrive?"""

from __future__ import annotations

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption
from resurgam.cli.wording import printable

app = typer.Typer(name="notify", help="Do messages arrive?", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _messages() -> None:
    pass


@app.command()
def test(json: JsonOption = False) -> int:
    """Send a test to every channel of BACKUP_NOTIFY_URLS, and say which arrived.

    BACKUP_PING_URL is not pinged: that would tell it of a backup. Exits 1 if a channel failed.
    """
    face = Face(json)
    with face.service() as service:
        deliveries = service.announcer.test()
    failed = any(one.ok is False for one in deliveries)
    lines = [f"{_MARKS[one.ok]}  {one.label}{f': {one.problem}' if one.problem else ''}" for one in deliveries]
    result = {"success": not failed, "channels": [one.to_json() for one in deliveries]}
    face.answer(result, "\n".join(map(printable, lines)))
    return exits.FAILED if failed else exits.OK


_MARKS = {True: "sent  ", False: "FAILED", None: "-     "}
