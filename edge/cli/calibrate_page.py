"""``snellius calibrate page``: click, type and draw in a browser, and save a calibration."""

from __future__ import annotations

import ipaddress
import socket
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadInput

if TYPE_CHECKING:
    from calibration import Calibration

LISTEN = "127.0.0.1:8017"


class Language(str, Enum):
    """What the page speaks."""

    NL = "nl"
    EN = "en"


def page(
    still: Annotated[
        Path, typer.Option(help="The picture to click in, made by 'snellius calibrate capture'.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for survey.csv, site.toml and cal.json, and the draft.", show_default=False)
    ],
    survey: Annotated[Path | None, typer.Option(help="Begin with these points.", show_default=False)] = None,
    site: Annotated[Path | None, typer.Option(help="Begin with this zone and direction.", show_default=False)] = None,
    lens: Annotated[
        Path | None,
        typer.Option(help="The lens of this camera, found by 'snellius calibrate lens'.", show_default=False),
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(help="Points along straight kerbs or edges: CSV with line,u_px,v_px.", show_default=False),
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Address and port; another than 127.0.0.1 opens the page to the network.")
    ] = LISTEN,
    lang: Annotated[Language | None, typer.Option(help="Language of the page.", show_default="the browser's")] = None,
) -> None:
    """Calibrate in a browser: click marks, type metres, draw the zone, see how good it is, save.

    Ends when the calibration is saved, or with Ctrl-C; what was done stays in the folder as a draft.

    Example: snellius calibrate page --still still.png --out site
    """
    from calibration import read_site, read_survey
    from calibration.drift import Reference
    from calibration.lens import Lens
    from calibration.page import PageServer, Workbench
    from calibration.still import Still
    from calibration.straight import read_lines

    host, port = address_of(listen)
    picture = Still.load(still)
    if picture.is_expired(datetime.now(timezone.utc)):
        raise BadInput(
            f"{still}: expired on {picture.expires:%Y-%m-%d}; delete it and take a new one (snellius calibrate capture)"
        )
    workbench = Workbench(
        image_size_px=picture.size_px,
        folder=out,
        survey=None if survey is None else read_survey(survey),
        site=None if site is None else read_site(site),
        reference=Reference.learn([picture.image_bgr]),
        lens=None if lens is None else Lens.load(lens),
        lines=None if lines is None else read_lines(lines),
    )
    try:
        server = PageServer(
            still=picture, workbench=workbench, host=host, port=port, language=None if lang is None else lang.value
        )
    except OSError as refused:
        raise BadInput(f"--listen: {listen}: {refused.strerror} (any free port: 127.0.0.1:0)") from None
    for line in invitation(server.address, host):
        typer.echo(line)
    try:
        saved = server.serve_until_saved()
    except KeyboardInterrupt:
        saved = None
    typer.echo(farewell(saved, out))


def address_of(listen: str) -> tuple[str, int]:
    """Host and port to listen at.

    Raises:
        BadInput: It is not ADDRESS:PORT.
    """
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not port.isdecimal() or int(port) > 65535:
        raise BadInput(f"--listen: expected ADDRESS:PORT such as {LISTEN}, got '{listen}'")
    return str(address), int(port)


def invitation(address: str, host: str) -> list[str]:
    """What to open, and a warning when others could."""
    if ipaddress.IPv4Address(host).is_loopback:
        return [f"Open {address}", "It ends when you save, or with Ctrl-C."]
    return [
        f"Open {address.replace('0.0.0.0', _own_address())}",  # noqa: S104 shown, not bound
        "It ends when you save, or with Ctrl-C.",
        "Warning: the page is open to this network, unencrypted. Whoever has the address sees the still and can change"
        " the calibration; use a cable or a hotspot of your own, and end it when you are done.",
    ]


def farewell(saved: Calibration | None, folder: Path) -> str:
    """What was written and what comes next."""
    if saved is None:
        return f"\nNot saved. The draft stays in {folder}: the same command goes on with it."
    return (
        f"Written: {folder / 'survey.csv'}, {folder / 'site.toml'}, {folder / 'cal.json'}"
        f" ({saved.id}, {saved.verdict.value}, valid until {saved.expires:%Y-%m-%d})"
        f"\nNext: snellius calibrate check --calibration {folder / 'cal.json'}"
    )


def _own_address() -> str:
    """Address of this computer on its network; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that belongs to nobody (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
