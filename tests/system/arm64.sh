#!/bin/sh
# Installs on arm64 and measures there what x86-64 measures, on any computer: a Debian root for arm64, emulated by QEMU.
# Not part of `make test`: it takes half an hour. Run as root from the project, after `make check`:
#
#     apt-get install debootstrap qemu-user-static
#     tests/system/arm64.sh [FOLDER]          (2 GB; what is there already is used again)
#
# Prints both lists of passages and ends with 0 when they are the same within their own sigma.
set -eu
cd "$(dirname "$0")/../.."
work=${1:-/var/tmp/snellius-arm64}
frames=${FRAMES:-110}                        # five and a half seconds of the bundled street
model=${MODEL:-nanodet-416x256-int8}
root=$work/root
python=.venv/bin/python
inside() { chroot "$root" /usr/bin/qemu-aarch64-static "$@"; }   # named, so that no binfmt needs to be registered

mkdir -p "$work"
if [ ! -e "$root/usr/bin/python3.11" ]; then
    echo "== a Debian root for arm64"
    [ -e "$root/debootstrap" ] || debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,python3-venv \
        bookworm "$root" http://deb.debian.org/debian
    for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
fi
cp "$(command -v qemu-aarch64-static)" "$root/usr/bin/"
inside /usr/bin/python3.11 -c 'import platform; print(platform.machine(), "Python", platform.python_version())'

echo "== the wheels that a Raspberry Pi would get"
rm -rf "$root/wheels"
mkdir -p "$root/wheels" "$work/wheels"
$python -m pip --disable-pip-version-check download --quiet --dest "$work/wheels" --constraint requirements.lock \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --platform any \
    $($python -c 'import tomllib; print(*(each.partition(">")[0].partition(";")[0] for each in
        tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if "tomli" not in each))')
cp "$work"/wheels/*.whl "$root/wheels/"
$python -m hatchling build -t wheel -d "$root/wheels"
rm -rf "$root/opt/snellius"
inside /usr/bin/python3.11 "$(cd "$root" && echo /usr/share/python-wheels/pip-*.whl)/pip" install --quiet --no-index \
    --find-links /wheels --no-compile --target /opt/snellius snellius

echo "== the same $frames frames here and there"
$python - "$root/clip.mp4" "$root/cal.json" "$frames" <<'END'
import sys
from datetime import datetime, timezone
from pathlib import Path
from tests.support.street import demo_calibration, shortened_street
shortened_street(Path(sys.argv[1]), frames=int(sys.argv[3]))
demo_calibration(datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)).save(Path(sys.argv[2]))
END
.venv/bin/snellius replay "$root/clip.mp4" --calibration "$root/cal.json" --model "$model" \
    --passages "$work/here.jsonl" --json
chroot "$root" /usr/bin/qemu-aarch64-static -E PYTHONPATH=/opt/snellius -E HOME=/tmp /usr/bin/python3.11 \
    -m edge replay /clip.mp4 --calibration /cal.json --model "$model" --passages /there.jsonl --json

$python - "$work/here.jsonl" "$root/there.jsonl" <<'END'
import json, sys
here, there = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
print("  x86-64                            arm64")
for a, b in zip(here, there):
    print(*(f"{p['direction']:8} {p['class']:6} {p['t_s']:6.2f} s {p['speed_kmh'] or 0:6.2f} ± {p['sigma_kmh'] or 0:.2f} km/h" for p in (a, b)), sep="   ")
def same(a, b):
    if any(a[key] != b[key] for key in ("direction", "class", "measured", "reason")) or abs(a["t_s"] - b["t_s"]) > 0.1:
        return False
    return not a["measured"] or abs(a["speed_kmh"] - b["speed_kmh"]) <= a["sigma_kmh"]
if len(here) != len(there) or not here or not all(map(same, here, there)):
    sys.exit("not the same passages")
print(f"{len(here)} passages, the same within sigma")
END
