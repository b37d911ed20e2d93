#!/bin/sh
# A blank Debian card, a real systemd: install, measure, kill, hang, upgrade, failed upgrade, uninstall.
# Not part of `make test`: it takes some minutes. Run as root from the project, after `make check`:
#
#     apt-get install debootstrap systemd-container
#     tests/system/pole.sh [FOLDER]           (2 GB; what is there already is used again)
#
# Prints a line for everything that was tried and ends with 0 when all of it held.
set -eu
cd "$(dirname "$0")/../.."
work=${1:-/var/tmp/snellius-pole}
root=$work/root
python=.venv/bin/python
mkdir -p "$work/wheels"

if [ ! -e "$root/.made" ]; then
    echo "== a Debian root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3,python3-venv \
        bookworm "$root" http://deb.debian.org/debian
    touch "$root/.made"
fi
rm -rf "$root/opt/snellius" "$root/etc/snellius" "$root/var/lib/snellius" "$root/trial"
mkdir -p "$root/trial/wheels"

echo "== the wheels, and four later versions: a good one and three that ail, each at another moment"
$python -m pip --disable-pip-version-check download --quiet --dest "$work/wheels" --constraint requirements.lock \
    --only-binary=:all: --python-version 3.11 \
    $($python -c 'import tomllib; print(*(each.partition(">")[0].partition(";")[0] for each in
        tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if "tomli" not in each))')
cp "$work"/wheels/*.whl "$root/trial/wheels/"
$python - "$root/trial" <<'END'
import subprocess, sys
from pathlib import Path
from tests.support.street import STREET, demo_calibration
from tests.system.test_install import changed
folder = Path(sys.argv[1])
subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], check=True)
(wheel,) = folder.glob("*.whl")
changed(wheel, folder, version="0.1.1")
def but(place, what, instead):
    text = Path(place).read_text()
    assert text.count(what) == 1, (place, what)
    return {place: text.replace(what, instead)}
changed(wheel, folder, version="0.1.2", **{"models/catalogue.toml": "[broken"})
index = '        "CREATE INDEX waiting ON queue (sent, seq, row)",\n    ),\n'
changed(wheel, folder, version="0.1.3",  # changes the outbox, then fails to start
        **but("edge/outbox.py", index, index + '    ("ALTER TABLE queue ADD COLUMN colour TEXT",),\n'),
        **but("edge/service.py", "        device.publisher.start()\n", "        raise SystemExit('a fault')\n"))
changed(wheel, folder, version="0.1.4",  # starts, says that it is ready, and falls with the first frame
        **but("edge/service.py", 'log.info("measuring")', "raise SystemExit('a fault')"))
demo_calibration().save(folder / "calibration.json")
(folder / "street.mp4").write_bytes(STREET.read_bytes())
END
cat > "$root/trial/snellius.toml" <<'END'
[site]
city = "hilversum"
device = "hvs-0042"
[source]
url = "street.mp4"
loop = true
[calibration]
file = "calibration.json"
[model]
name = "nanodet-416x256-int8"
[mqtt]
password_file = "credentials/mqtt-password"
END
cat > "$root/trial/inside.sh" <<'END'
#!/bin/bash
# Runs inside, as a service. One line for each thing that was tried.
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/trial/wheels PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
held() { if eval "$2"; then echo "ok    $1"; else echo "FAIL  $1"; echo 1 > /trial/failed; fi; }
soon() { end=$((SECONDS + ${3:-240})); until eval "$2" > /dev/null 2>&1 || [ $SECONDS -gt $end ]; do sleep 1; done; held "$1" "$2"; }
measures() { snellius status --json | grep -q '"frames_per_s": [1-9]'; }
told() { snellius status --json | python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
colours() { python3 -c "import sqlite3; print([row[1] for row in sqlite3.connect('file:/var/lib/snellius/outbox.sqlite?immutable=1', uri=True).execute('PRAGMA table_info(queue)')])"; }
asks() { systemd-run --quiet --wait --pipe -p User=snellius -p SystemCallErrorNumber=EPERM "$@" /opt/snellius/current/bin/python -c \
    'import ctypes; raise SystemExit(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(400)) < 0)'; }
pid() { systemctl show -p MainPID --value snellius; }
find / -xdev -not -path '/proc/*' -not -path '/trial/*' | sort > /trial/before

held "a blank card installs the wheel"         'python3 $(echo /trial/snellius-0.1.0-*.whl)/edge install --camera usb'
held "nothing runs before there are settings"  '! systemctl -q is-active snellius'
cp /trial/snellius.toml /trial/calibration.json /trial/street.mp4 /etc/snellius/
chgrp snellius /etc/snellius/street.mp4
printf 'marker-secret\n' > /etc/snellius/credentials/mqtt-password
held "install again takes settings and secret in, and starts it"  'snellius install'
soon "it measures, and says so"                measures
held "it runs as its own user"                 'grep -q "^Uid:.*$(id -u snellius)" /proc/$(pid)/status'
held "nobody can look into its folders"        '[ "$(stat -c %a:%U /var/lib/snellius /run/snellius | tr "\n" " ")" = "700:snellius 700:snellius " ]'
held "it listens nowhere"                      '! grep -q " 0A " /proc/net/tcp /proc/net/tcp6 && [ "$(cat /proc/net/udp /proc/net/udp6 | grep -vc local_address)" = 0 ]'
held "it has the secret from systemd only"     '[ -e /run/credentials/snellius.service/mqtt-password ] && ! grep -qa marker-secret /proc/$(pid)/environ /proc/$(pid)/cmdline'
held "it cannot make a core file or be swapped"  'grep -q "Max core file size *0 *0" /proc/$(pid)/limits'
was=$(pid); kill -9 "$was"
soon "killed, it comes back"                   '[ "$(pid)" -gt 0 ] && [ "$(pid)" != "$was" ] && measures'
was=$(pid); kill -STOP "$was"
soon "hung, it is ended and comes back"        '[ "$(pid)" -gt 0 ] && [ "$(pid)" != "$was" ] && measures' 400
held "systemd says why"                        'journalctl -b -u snellius | grep -q "Watchdog timeout"'
held "the daily look runs behind the same walls" 'systemctl start snellius-doctor; journalctl -b -u snellius-doctor | grep -q "calibration: cal-"'
held "and the only thing it finds is the broker" '[ "$(journalctl -b -o cat -u snellius-doctor | grep "^fail" | cut -d: -f1 | sort -u)" = "fail broker" ]'
held "it is looked at every day"               'systemctl -q is-active snellius-doctor.timer'
held "an upgrade to a good version"            'snellius install /trial/snellius-0.1.1-*.whl'
soon "it measures with it"                     'measures && snellius status --json | grep -q "\"version\": \"0.1.1\""'
held "an upgrade to a broken version is refused" '! snellius install /trial/snellius-0.1.2-*.whl'
soon "and the good one measures again"         'measures && snellius status --json | grep -q "\"version\": \"0.1.1\""'
windows=$(told '["queue"]')
held "an upgrade that changes the outbox and does not start is taken back" '! snellius install /trial/snellius-0.1.3-*.whl'
soon "the good one measures again"             'measures && [ "$(told "[\"version\"]")" = 0.1.1 ]'
held "on the outbox that the other one changed, with all its windows" 'colours | grep -q colour && [ "$(told "[\"queue\"]")" -ge "$windows" ] && [ ! -e /var/lib/snellius/*.damaged ]'
held "an upgrade that falls after it has started is taken back" '! snellius install /trial/snellius-0.1.4-*.whl'
soon "and the good one measures again"         'measures && [ "$(told "[\"version\"]")" = 0.1.1 ]'
held "ProtectClock= forbids to ask whether the clock is right" '! asks -p ProtectClock=yes'
held "the calls that clock.conf lets through answer" 'asks -p CapabilityBoundingSet= -p NoNewPrivileges=yes -p SystemCallFilter=@system-service -p "SystemCallFilter=~@privileged @resources" -p "SystemCallFilter=adjtimex clock_adjtime clock_adjtime64"'
held "without timesyncd the kernel is asked"   '[ -e /etc/systemd/system/snellius.service.d/55-clock.conf ]'
held "nothing of a secret in the journal"      '! journalctl -b | grep -q marker-secret'
held "uninstall, the state kept"               'snellius uninstall --keep-state && [ -e /var/lib/snellius/outbox.sqlite ] && [ -e /etc/snellius/snellius.toml ]'
touch /usr/lib/systemd/systemd-timesyncd       # as on a Raspberry Pi and a Jetson: the strictest walls
held "install again goes on with it"           'python3 $(echo /trial/snellius-0.1.1-*.whl)/edge install --camera network && systemctl -q is-active snellius'
held "with the strictest walls"                '[ ! -e /etc/systemd/system/snellius.service.d/55-clock.conf ] && [ ! -e /etc/systemd/system/snellius.service.d/50-camera.conf ] && systemctl show -p PrivateDevices,ProtectClock snellius | grep -c =yes | grep -q 2'
soon "it measures"                             measures
rm /usr/lib/systemd/systemd-timesyncd
held "uninstall"                               'snellius uninstall --force'
find / -xdev -not -path '/proc/*' -not -path '/trial/*' | sort > /trial/after
left=$(comm -13 /trial/before /trial/after | grep -Ev '^/(var/log|var/lib/systemd|var/tmp|tmp|run|dev|sys|root)/|^/etc/(sub)?[a-z]+-$|^/etc/.pwd.lock$')
held "nothing is left behind${left:+: $left}"  '[ -z "$left" ] && ! id snellius 2> /dev/null'
echo "== the end"
END
cat > "$root/etc/systemd/system/trial.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /trial/inside.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=file:/trial/said
StandardError=file:/trial/said
[Install]
WantedBy=graphical.target
END
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -sf ../trial.service "$root/etc/systemd/system/graphical.target.wants/trial.service"

echo "== a boot"
timeout 3000 systemd-nspawn --quiet --directory "$root" --register=no --keep-unit --private-network \
    --system-call-filter="adjtimex clock_adjtime" --boot \
    > "$work/boot.log" 2>&1 || true
cat "$root/trial/said"
[ ! -e "$root/trial/failed" ] && grep -q "== the end" "$root/trial/said"
