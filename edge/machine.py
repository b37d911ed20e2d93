"""What the computer tells of itself: heat, power and disk, from files that Linux keeps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")  # of the processor on a Raspberry Pi and a Jetson [m°C]
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # of a Raspberry Pi's firmware, hexadecimal
ENERGY = Path("/sys/class/powercap")  # of an x86 processor: a counter a socket, in intel-rapl:N [µJ]
UNDER_VOLTAGE, CAPPED, SLOWED, SOFT_LIMIT = (1 << bit for bit in (0, 1, 2, 3))  # as vcgencmd get_throttled has them
SINCE_BOOT = 16  # the same bits, this much higher: it has happened
TOO_HOT_C = 82  # a Raspberry Pi slows down at 80 to 85 °C


@dataclass(frozen=True, slots=True)
class Strain:
    """Whether heat or power slows the computer down.

    Attributes:
        is_hot: It is slowed down by heat now, or would be any moment.
        is_underpowered: The supply voltage is too low now.
        was_hot: It has been slowed down since the last boot.
        was_underpowered: The voltage has been too low since the last boot.
    """

    is_hot: bool
    is_underpowered: bool
    was_hot: bool = False
    was_underpowered: bool = False

    @classmethod
    def of_bits(cls, bits: int) -> Strain:
        """From the word of a Raspberry Pi's firmware."""
        slowed, earlier = CAPPED | SLOWED | SOFT_LIMIT, bits >> SINCE_BOOT
        return cls(
            bool(bits & slowed), bool(bits & UNDER_VOLTAGE), bool(earlier & slowed), bool(earlier & UNDER_VOLTAGE)
        )


def strain(root: Path = Path("/")) -> Strain | None:
    """What a Raspberry Pi's firmware tells; None on another computer."""
    try:
        return Strain.of_bits(int((root / THROTTLED.relative_to("/")).read_text(), 16))
    except (OSError, ValueError):
        return None


def temperature_c() -> int | None:
    """Of the processor, whole degrees; None where the machine does not tell. [°C]"""
    try:
        return round(int(THERMAL_ZONE.read_text()) / 1000)
    except (OSError, ValueError):
        return None


def energy_j(root: Path = Path("/")) -> float | None:
    """What the processor has used since its counter began anew; None where the computer does not tell us. [J]"""
    try:
        sockets = [file.read_text() for file in (root / ENERGY.relative_to("/")).glob("intel-rapl:?/energy_uj")]
        return sum(map(int, sockets)) / 1e6 if sockets else None
    except (OSError, ValueError):  # most computers let root only read it
        return None


def disk_free(folder: Path) -> float:
    """Free share of the disk that holds a folder, 0 to 1."""
    usage = shutil.disk_usage(folder)
    return usage.free / usage.total if usage.total else 0.0
