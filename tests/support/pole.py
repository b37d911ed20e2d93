"""The service as a process of its own: ``snellius run`` with settings for a short street, and nothing replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.street import demo_calibration

SETTINGS = """
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "{source}"
{source_more}
[calibration]
file = "cal.json"
[model]
name = "nanodet-416x256-int8"
[lab]
enabled = true
k = 1
slot_s = 10
[mqtt]
url = "{broker}"
{mqtt_more}
[outbox]
file = "outbox.sqlite"
[service]
drain_s = 60
checkpoint_s = 1
health_s = 5
status_socket = "status"
"""


def configured(folder: Path, *, broker: str, source: str, source_more: str = "", mqtt_more: str = "") -> Path:
    """Settings and calibration of the bundled street in a folder; lab windows of ten seconds.

    Args:
        folder: Holds them, and later outbox and socket.
        broker: Its address.
        source: Its address.
        source_more: More lines of ``[source]``.
        mqtt_more: More lines of ``[mqtt]``.
    """
    demo_calibration().save(folder / "cal.json")
    path = folder / "snellius.toml"
    text = SETTINGS.format(source=source, source_more=source_more, broker=broker, mqtt_more=mqtt_more)
    path.write_text(text)
    path.chmod(0o600)
    return path


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """The service, killed at the end if it still runs; what it says goes to its ``stderr``."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from edge.cli import main; main()", "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        assert process.stderr is not None
        if not process.stderr.closed:
            process.communicate()
