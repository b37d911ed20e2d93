"""The computer: clock, disk and card, heat and power. Everything is read from files that Linux keeps."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from edge.clock import LinuxClock
from edge.doctor.check import Check, State, guarded
from edge.machine import TOO_HOT_C, Strain, disk_free, strain, temperature_c

USER = "snellius"  # of the service
DISK_LOW = 0.10
HOT_C = 75
WORN = 0.8  # of the life that the maker of a card promises
LIFE_STEP = 0.1  # JEDEC eMMC 5.1, EXT_CSD DEVICE_LIFE_TIME_EST: 1 is 0 to 10 %, 11 is over


def examine(folder: Path, *, root: Path, is_writing: bool = False) -> Iterator[Check]:
    """Everything about the computer.

    Args:
        folder: Whose disk matters.
        root: Where the computer's own files are.
        is_writing: Whether the service writes into the folder.
    """
    yield guarded("clock", _clock, next_step="allow network time (NTP): timedatectl")
    yield guarded(
        "disk",
        lambda: _disk(folder, is_writing=is_writing),
        next_step="make the folder of outbox.file, owned by snellius",
    )
    yield from _card(folder, root)
    temperature = temperature_c()
    if temperature is not None:
        yield heat(temperature)
    told = strain(root)
    if told is not None:
        yield power(told)


def _clock() -> Check:
    clock = LinuxClock()
    if clock.is_synced():
        return Check("clock", State.OK, f"synchronised, {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
    return Check(
        "clock",
        State.WARN,
        "not synchronised at this moment; speeds do not depend on it, window times do",
        "allow network time (NTP): timedatectl",
    )


def _disk(folder: Path, *, is_writing: bool) -> Check:
    usage = shutil.disk_usage(folder)
    free = disk_free(folder)
    says = f"{free:.0%} of {usage.total / 1e9:.0f} GB free at {folder}"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return Check(
            "disk", State.FAIL, f"{folder}: mounted read-only", "look at: journalctl -k; a worn card does this"
        )
    if is_writing and not _may_write(folder):
        return Check("disk", State.FAIL, f"{folder}: the service may not write there", f"chown -R {USER}: {folder}")
    if free < DISK_LOW:
        return Check("disk", State.WARN, says, "make room")
    return Check("disk", State.OK, says)


def _may_write(folder: Path) -> bool:
    """Whether the service may; asked by root it is about the service's own user, where there is one."""
    if os.geteuid() != 0:
        return os.access(folder, os.W_OK)
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return os.access(folder, os.W_OK)
    found = folder.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & stat.S_IWUSR)
    return bool(found.st_mode & (stat.S_IWGRP if found.st_gid == user.pw_gid else stat.S_IWOTH))


def _card(folder: Path, root: Path) -> Iterator[Check]:
    """Errors of the file system, and how far a card is worn, where it tells."""
    try:
        number = folder.stat().st_dev
    except OSError:
        return  # told by the check of the disk
    device = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    errors = _text(root / f"sys/fs/ext4/{device.name}/errors_count")
    if errors is not None and int(errors):
        says = f"the file system of {folder} has had {errors} errors"
        yield Check("card", State.FAIL, says, "save /etc/snellius and /var/lib/snellius, replace the card")
    for place in (device, device.parent):  # a partition, and the card that it is on
        life, end = _text(place / "device/life_time"), _text(place / "device/pre_eol_info")
        if life is not None:
            yield wear(max(int(part, 16) for part in life.split()), is_urgent=int(end or "0", 16) > 1)
            return


def wear(step: int, *, is_urgent: bool = False) -> Check:
    """How far a card is worn.

    Args:
        step: In tenths of its life, as the card counts: 1 is up to 10 %; 0: it does not know.
        is_urgent: Whether the card says that its spare blocks run out.
    """
    worn = step * LIFE_STEP
    says = f"up to {min(worn, 1.0):.0%} of the card's life is used" if step else "the card does not tell how worn it is"
    if is_urgent or worn > 1.0:
        return Check("card", State.FAIL, f"{says}; its spare blocks run out", "replace the card now")
    if worn > WORN:
        return Check("card", State.WARN, says, "plan a new card")
    return Check("card", State.OK, says)


def heat(temperature: int) -> Check:
    """Of the processor. [°C]"""
    says = f"processor at {temperature} °C"
    if temperature >= TOO_HOT_C:
        return Check("temperature", State.FAIL, says, "shade or ventilate the housing")
    if temperature >= HOT_C:
        return Check("temperature", State.WARN, says, "shade or ventilate the housing")
    return Check("temperature", State.OK, says)


def power(told: Strain) -> Check:
    """Whether a Raspberry Pi is or was slowed down."""
    supply, shade = "a stronger power supply, a shorter or thicker cable", "shade or ventilate the housing"
    if told.is_underpowered:
        return Check("power", State.FAIL, "under-voltage now", supply)
    if told.is_hot:
        return Check("power", State.WARN, "slowed down by heat now", shade)
    if told.was_underpowered:
        return Check("power", State.WARN, "under-voltage since the last boot", supply)
    if told.was_hot:
        return Check("power", State.WARN, "slowed down by heat since the last boot", shade)
    return Check("power", State.OK, "no under-voltage, not slowed down")


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
