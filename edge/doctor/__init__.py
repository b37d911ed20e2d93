"""Every problem of a device at once, each with its cause and the next step.

A check stands alone: one that fails hides no other. ``machine`` looks at the computer, ``camera`` at what it sees,
``measuring`` at model and calibration, ``broker`` at the way to the platform. Nothing here changes anything, keeps a
picture or repeats a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.doctor import broker, camera, machine, measuring
from edge.doctor.check import Check, State
from edge.errors import BadInput, BadSettings, SnelliusError
from edge.settings import Settings, load_settings
from edge.status_socket import ask

__all__ = ["Check", "State", "examine"]


def examine(config: Path | None, *, root: Path = Path("/")) -> Iterator[Check]:
    """Every check that can be made, in the order in which one would go about it.

    Args:
        config: The settings file; None: only the computer is looked at.
        root: Where the computer's own files are, ``/sys`` and the like.

    Raises:
        BadInput: There is no such settings file.
    """
    settings = None
    if config is not None:
        if not config.exists():
            raise BadInput(f"{config}: no such settings file (snellius init makes one)")
        try:
            settings = load_settings(config)
        except BadSettings as wrong:
            yield from (
                Check("settings", State.FAIL, f"{config}: {each}", "correct this line") for each in wrong.problems
            )
        except BadInput as wrong:
            yield Check("settings", State.FAIL, str(wrong), "correct the file; snellius init makes a new one")
    if settings is None:
        yield measuring.model(None, None)
        yield from machine.examine(Path.cwd() if config is None else config.absolute().parent, root=root)
        return
    yield _settings(settings)
    told, service = _service(settings, root)
    yield service
    views, checks = camera.examine(settings, told)
    yield from checks
    yield measuring.model(settings.model.name, views[-1] if views else None, settings.model.threads)
    yield from measuring.calibration(settings, views)
    yield from machine.examine(settings.outbox.file.parent, root=root, is_writing=True)
    yield from broker.examine(settings)


def _settings(settings: Settings) -> Check:
    if settings.lab.enabled:
        says = "lab mode: windows may hold single vehicles"
        return Check("settings", State.WARN, says, "lab.enabled = false on a public road")
    return Check("settings", State.OK, f"{settings.site.city}/{settings.site.device}, k = {settings.privacy.k}")


def _service(settings: Settings, root: Path) -> tuple[dict[str, object] | None, Check]:
    """What the running service says, if one runs."""
    try:
        told = ask(settings.service.status_socket)
    except SnelliusError as error:
        return None, Check("service", State.WARN, str(error), "sudo snellius doctor …")
    if told is None:
        is_installed = (root / "opt/snellius/current").exists()
        state = State.WARN if is_installed else State.OK
        return None, Check(
            "service", state, "does not run now", "sudo systemctl start snellius" if is_installed else ""
        )
    reasons = ", ".join(str(reason) for reason in told["reasons"])
    if not reasons:
        return told, Check("service", State.OK, f"runs, {told['state']}")
    return told, Check(
        "service", State.WARN, f"runs, {told['state']}: {reasons}", "docs/operating.md says what each means"
    )
