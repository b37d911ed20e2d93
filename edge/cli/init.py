"""``snellius init``: a first settings file."""

from __future__ import annotations

import grp
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import BadInput, BadSettings

OUT = Path("/etc/snellius/snellius.toml")
GROUP = "snellius"  # of the service; it reads the file, root writes it
MODE = 0o640
LOCAL_BROKER = "mqtt://127.0.0.1"
BROKER_CREDENTIAL = "credentials/mqtt-password"
QUESTIONS = {  # setting → what is asked
    "site.city": "City, as it stands in the topics (a-z 0-9 -)",
    "site.device": "Name of this device, also its MQTT user name (a-z 0-9 -)",
    "source.url": "Source (video file, rtsp://…, /dev/video0, picamera:)",
    "mqtt.url": "Broker (mqtts://HOST, or mqtt://127.0.0.1 on this computer)",
}


def init(
    city: Annotated[str | None, typer.Option(help="City, as it stands in the topics.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="Name of this device.", show_default=False)] = None,
    source: Annotated[str | None, typer.Option(help="Where the frames come from.", show_default=False)] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtts://HOST[:PORT], or mqtt://127.0.0.1.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="The settings file to write.")] = OUT,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a first settings file; asks for what is not given, and says how to go on.

    Example: sudo snellius init --city hilversum --device hvs-0042 --source /dev/video0 --broker mqtts://mqtt.hilversum.nl
    """
    given = {"site.city": city, "site.device": device, "source.url": source, "mqtt.url": broker}
    if out.exists() and not force and not _may_write_over(out):
        raise BadInput(f"{out}: is there already (--force writes over it)")
    values = {name: value if value is not None else _asked(name) for name, value in given.items()}
    write(out, values)
    typer.echo(f"Written: {out}\n\n" + "\n".join(next_steps(out, values)))


def write(out: Path, values: dict[str, str]) -> None:
    """A settings file for root to write and the service to read, whole or not at all.

    Args:
        out: Where.
        values: By setting, see ``QUESTIONS``.

    Raises:
        BadInput: A value is wrong, or the place cannot be written.
    """
    from edge.cli.files import written_whole
    from edge.settings import load_settings

    with written_whole(out, is_private=True) as partial:
        partial.write_text(as_toml(values), encoding="utf-8")
        try:
            load_settings(partial)
        except BadSettings as wrong:
            raise BadSettings("init", wrong.problems) from None
        if os.geteuid() == 0 and (group := _group()) is not None:
            os.chown(partial, 0, group)
        partial.chmod(MODE)


def as_toml(values: dict[str, str]) -> str:
    """The text of the file: what was asked, and what most poles need besides."""
    quoted = {name: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in values.items()}
    password = f'password_file = "{BROKER_CREDENTIAL}"\n' if _needs_password(values["mqtt.url"]) else ""
    return f"""\
# Made by snellius init. Every setting, with its default and what it means: docs/settings.md.

[site]
city = {quoted["site.city"]}
device = {quoted["site.device"]}

[source]
url = {quoted["source.url"]}

[calibration]
file = "cal.json"

[mqtt]
url = {quoted["mqtt.url"]}
{password}"""


def next_steps(out: Path, values: dict[str, str]) -> list[str]:
    """What to type next, in order."""
    folder, source = shlex.quote(str(out.parent)), shlex.quote(values["source.url"])
    steps = [
        ("a still without traffic", f"snellius calibrate capture --source {source} --out still.png"),
        ("calibrate in a browser", f"snellius calibrate page --still still.png --out {folder}"),
        ("see whether all is well", f"snellius doctor --config {shlex.quote(str(out))}"),
    ]
    if _needs_password(values["mqtt.url"]):
        steps.insert(0, ("the broker's password", f"install -m 600 /dev/stdin {folder}/{BROKER_CREDENTIAL}"))
    if out == OUT:
        steps += [("secrets and modes", "snellius install"), ("measure", "systemctl start snellius")]
    sudo = "sudo " if out == OUT else ""
    width = max(len(what) for what, _ in steps)
    return ["Next:", *(f"  {what:{width}}  {sudo}{command}" for what, command in steps)]


def _may_write_over(out: Path) -> bool:
    return sys.stdin.isatty() and typer.confirm(f"{out} is there already. Write over it?", default=False)


def _asked(name: str) -> str:
    if not sys.stdin.isatty():
        raise BadInput(f"--{_OPTIONS[name]}: missing (nobody can be asked: standard input is no terminal)")
    return str(typer.prompt(QUESTIONS[name], default=LOCAL_BROKER if name == "mqtt.url" else None))


_OPTIONS = {"site.city": "city", "site.device": "device", "source.url": "source", "mqtt.url": "broker"}


def _needs_password(broker: str) -> bool:
    return broker.startswith("mqtts:")


def _group() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
