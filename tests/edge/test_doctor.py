"""Set-ups that are broken in one way each: the doctor names the cause and the next step, and nothing of a secret."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge.machine
from calibration import Calibration, Verdict
from calibration.drift import Reference
from edge.assembly import followed_part
from edge.doctor import Check, State, examine
from edge.domain import Pixels
from edge.errors import BadInput
from edge.sources.video import VideoFile
from edge.status_socket import StatusSocket
from tests.support.certificates import make_authority, tls_broker
from tests.support.clips import cut_off, write_clip
from tests.support.mosquitto import Mosquitto
from tests.support.street import LONG_AGO, MADE, STREET, demo_calibration, shortened_street
from tests.support.turning import Turner, a_turn

SECRET = "marker-secret"


@dataclass
class SetUp:
    """A device that is well, until a test breaks something."""

    folder: Path
    broker: Mosquitto
    street: Path
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        demo_calibration().save(self.folder / "cal.json")
        self.secret("password", SECRET)
        self.keys = {
            "site.city": '"hilversum"',
            "site.device": '"hvs-0042"',
            "source.url": f'"{self.street}"',
            "calibration.file": '"cal.json"',
            "model.name": '"nanodet-416x256-int8"',
            "mqtt.url": f'"{self.broker.url}"',
            "mqtt.password_file": '"password"',
            "outbox.file": '"outbox.sqlite"',
            "service.status_socket": '"status"',
        }

    def secret(self, name: str, text: str, mode: int = 0o600) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(mode)

    def clip(self, change: Callable[[Pixels], Pixels], *, rate_hz: float = 20.0, frames: int = 52) -> None:
        """The bundled street, every picture changed."""
        with VideoFile(STREET) as street:
            writer = cv2.VideoWriter(
                str(self.folder / "changed.avi"), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, street.size_px
            )
            for frame in islice(street.frames(), frames):
                writer.write(change(frame.image_bgr))
            writer.release()
        self.keys["source.url"] = '"changed.avi"'

    @property
    def config(self) -> Path:
        path = self.folder / "snellius.toml"
        if not path.exists():
            sections: dict[str, list[str]] = {}
            for key, value in self.keys.items():
                section, _, name = key.partition(".")
                sections.setdefault(section, []).append(f"{name} = {value}")
            path.write_text("".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items()))
            path.chmod(0o640)
        return path

    def examined(self) -> dict[str, Check]:
        """Findings by name; of several with one name the worst."""
        order = list(State)
        found = sorted(examine(self.config, root=self.folder / "root"), key=lambda check: order.index(check.state))
        assert SECRET not in repr(found)
        return {check.name: check for check in found}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def short_street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled street, as long as a rate and a drift take to be seen: every examination reads all of it."""
    return shortened_street(tmp_path_factory.mktemp("street") / "street.mp4", frames=52)


@pytest.fixture
def device(tmp_path: Path, broker: Mosquitto, short_street: Path, monkeypatch: pytest.MonkeyPatch) -> SetUp:
    monkeypatch.setattr("edge.doctor.camera.PATIENCE_S", 2.0)  # for a camera that never comes
    return SetUp(tmp_path, broker, short_street)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tls"))


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_device_that_is_well_has_nothing_to_mend(device: SetUp) -> None:
    found = device.examined()
    assert {name for name, check in found.items() if check.state is not State.OK} <= {
        "clock",
        "model",
        "disk",
        "temperature",
    }
    assert {
        "settings", "service", "source", "time stamps", "exposure", "sharpness", "model", "calibration", "drift",
        "clock", "disk", "secrets", "broker",
    } <= set(found)  # fmt: skip
    assert found["broker"].says.endswith("takes messages on snellius/1/hilversum/hvs-0042/#")
    assert "20.00 frames a second" in found["source"].says


# -------------------------------------------------------------------------------------------- broken in one way each


def wrong_key(device: SetUp) -> None:
    device.keys["mqtt.urll"] = '"x"'


def no_toml(device: SetUp) -> None:
    (device.folder / "snellius.toml").write_text("[site\n")


def settings_for_everybody(device: SetUp) -> None:
    device.config.chmod(0o644)


def lab_mode(device: SetUp) -> None:
    device.keys["lab.enabled"] = "true"


def no_source(device: SetUp) -> None:
    device.keys["source.url"] = '"nothing.mp4"'


def no_camera(device: SetUp) -> None:
    device.keys["source.url"] = '"/dev/video99"'


def text_as_source(device: SetUp) -> None:
    put(device.folder / "text.mp4", "name,u_px\n" * 300)
    device.keys["source.url"] = '"text.mp4"'


def broken_off(device: SetUp) -> None:
    cut_off(write_clip(device.folder / "whole.avi", frames=60, size_px=(960, 540)), into=device.folder, keep=0.5)
    device.keys["source.url"] = '"whole-cut.avi"'


def slow_camera(device: SetUp) -> None:
    device.clip(lambda picture: picture, rate_hz=4.0)


def black(device: SetUp) -> None:
    device.clip(np.zeros_like)


def dark(device: SetUp) -> None:
    device.clip(lambda picture: np.asarray(picture * 0.25, dtype=np.uint8))


def burnt_out(device: SetUp) -> None:
    device.clip(lambda picture: np.asarray(np.minimum(picture * 3.0, 255), dtype=np.uint8))


def unfocused(device: SetUp) -> None:
    device.clip(lambda picture: np.asarray(cv2.GaussianBlur(picture, (0, 0), 4.0), dtype=np.uint8))


def frozen(device: SetUp) -> None:
    with VideoFile(STREET) as street:
        still = next(street.frames()).image_bgr
    device.clip(lambda picture: still)


def sky() -> int:
    """Row at which the part that matters begins."""
    top = followed_part(demo_calibration())[1]
    assert top > 60
    return top


def dark_road_under_a_bright_sky(device: SetUp) -> None:
    top = sky()

    def change(picture: Pixels) -> Pixels:
        changed = np.asarray(picture * 0.25, dtype=np.uint8)
        changed[:top] = 250
        return changed

    device.clip(change)


def blurred_road_under_a_sharp_sky(device: SetUp) -> None:
    top = sky()
    stripes = np.zeros((top, 960, 3), dtype=np.uint8)
    stripes[:, ::8], stripes[:, 1::8] = 200, 200

    def change(picture: Pixels) -> Pixels:
        changed = np.asarray(cv2.GaussianBlur(picture, (0, 0), 4.0), dtype=np.uint8)
        changed[:top] = stripes
        return changed

    device.clip(change)


def other_size(device: SetUp) -> None:
    device.clip(lambda picture: picture)
    clip = write_clip(device.folder / "other.mp4", size_px=(640, 480))
    device.keys["source.url"] = f'"{clip}"'


def turned_camera(device: SetUp) -> None:
    calibration = demo_calibration()
    with VideoFile(STREET) as street:
        reference = Reference.learn([frame.image_bgr for frame in islice(street.frames(), 0, 100, 20)])
    assert reference is not None
    certified(device, calibration, reference=reference)
    device.clip(Turner(calibration.plane.camera, a_turn(0.6)))


def certified(device: SetUp, calibration: Calibration, **changes: object) -> None:
    given = {
        "plane": calibration.plane, "site": calibration.site, "points": calibration.points, "dropped": (),
        "noise_scale": 1.0, "verdict": Verdict.GOOD, "reasons": (), "created": MADE,
    } | changes  # fmt: skip
    Calibration.certify(**given).save(device.folder / "cal.json")  # type: ignore[arg-type]


def no_calibration(device: SetUp) -> None:
    (device.folder / "cal.json").unlink()


def altered_calibration(device: SetUp) -> None:
    file = device.folder / "cal.json"
    file.write_text(file.read_text().replace('"limit_kmh": 30', '"limit_kmh": 50'))


def expired_calibration(device: SetUp) -> None:
    demo_calibration(LONG_AGO).save(device.folder / "cal.json")


def refused_calibration(device: SetUp) -> None:
    certified(device, demo_calibration(), verdict=Verdict.REFUSE, reasons=("speeds would be off by 4 %",))


def other_site(device: SetUp) -> None:
    device.keys["site.id"] = '"hvs-elsewhere-1"'


def unknown_model(device: SetUp) -> None:
    device.keys["model.name"] = '"yolo99"'


def no_outbox_folder(device: SetUp) -> None:
    device.keys["outbox.file"] = '"gone/outbox.sqlite"'


def worn_card(device: SetUp) -> None:
    number = device.folder.stat().st_dev
    block = f"root/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    put(device.folder / block / "device/life_time", "0x01 0x0a\n")
    put(device.folder / block / "device/pre_eol_info", "0x01\n")


def dying_card(device: SetUp) -> None:
    worn_card(device)
    number = device.folder.stat().st_dev
    put(device.folder / f"root/sys/dev/block/{os.major(number)}:{os.minor(number)}/device/pre_eol_info", "0x03\n")


def damaged_file_system(device: SetUp) -> None:
    number = device.folder.stat().st_dev
    put(device.folder / f"root/sys/fs/ext4/{os.major(number)}:{os.minor(number)}/errors_count", "7\n")


def under_voltage(device: SetUp) -> None:
    put(device.folder / "root/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")


def was_under_voltage(device: SetUp) -> None:
    put(device.folder / "root/sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")


def slowed_by_heat(device: SetUp) -> None:
    put(device.folder / "root/sys/devices/platform/soc/soc:firmware/get_throttled", "e0008\n")


def password_for_everybody(device: SetUp) -> None:
    device.secret("password", SECRET, mode=0o644)


def no_password(device: SetUp) -> None:
    (device.folder / "password").unlink()


def empty_password(device: SetUp) -> None:
    device.secret("password", "")


def no_broker(device: SetUp) -> None:
    device.keys["mqtt.url"] = '"mqtt://127.0.0.1:1"'


def plain_text_through_the_network(device: SetUp) -> None:
    device.keys["mqtt.url"] = '"mqtt://broker.example.org"'


def old_protocol(device: SetUp) -> None:
    device.keys["mqtt.protocol"] = '"3.1.1"'


@pytest.mark.parametrize(
    ("break_it", "name", "state", "says", "next_step"),
    [
        (wrong_key, "settings", "fail", "mqtt.urll: unknown setting (did you mean mqtt.url?)", "correct"),
        (no_toml, "settings", "fail", "expected TOML", "snellius init"),
        (settings_for_everybody, "settings", "fail", "everybody on this computer may read the settings", "correct"),
        (lab_mode, "settings", "warn", "lab mode", "lab.enabled = false"),
        (no_source, "source", "fail", "no such video file", "source.url"),
        (no_camera, "source", "fail", "/dev/video99", "power and network"),
        (text_as_source, "source", "fail", "found text", "source.url"),
        (broken_off, "time stamps", "warn", "breaks off", "look at the recording"),
        (slow_camera, "source", "warn", "4.00 frames a second", "8 or more"),
        (black, "exposure", "fail", "black", "cover"),
        (dark, "exposure", "warn", "too dark", "more exposure"),
        (burnt_out, "exposure", "warn", "too bright", "less exposure"),
        (unfocused, "sharpness", "warn", "out of focus", "focus it"),
        (dark_road_under_a_bright_sky, "exposure", "warn", "too dark", "more exposure"),
        (blurred_road_under_a_sharp_sky, "sharpness", "warn", "out of focus", "focus it"),
        (frozen, "picture", "warn", "may be frozen", "switch it off and on"),
        (other_size, "image size", "fail", "calibrated for 960x540, the source gives 640x480", "set the camera back"),
        (turned_camera, "drift", "fail", "does not stand as calibrated", "turn it back"),
        (no_calibration, "calibration", "fail", "no such file", "snellius calibrate page"),
        (altered_calibration, "calibration", "fail", "cal.json", "snellius calibrate page"),
        (expired_calibration, "calibration", "fail", "expired on 2021-03-01", "calibrate again"),
        (refused_calibration, "calibration", "fail", "off by 4 %", "calibrate again"),
        (other_site, "site", "warn", "hvs-elsewhere-1", "site.id"),
        (unknown_model, "model", "fail", "yolo99", "snellius models list"),
        (no_outbox_folder, "disk", "fail", "No such file", "outbox.file"),
        (worn_card, "card", "warn", "up to 100% of the card's life", "plan a new card"),
        (dying_card, "card", "fail", "spare blocks run out", "replace the card now"),
        (damaged_file_system, "card", "fail", "7 errors", "replace the card"),
        (under_voltage, "power", "fail", "under-voltage now", "power supply"),
        (was_under_voltage, "power", "warn", "under-voltage since the last boot", "power supply"),
        (slowed_by_heat, "power", "warn", "slowed down by heat now", "shade"),
        (password_for_everybody, "secrets", "fail", "everybody on this computer may read", "chmod o="),
        (no_password, "secrets", "fail", "No such file", "put the file at"),
        (empty_password, "secrets", "fail", "is empty", "put the secret"),
        (no_broker, "broker", "fail", "127.0.0.1:1: Connection refused", "the network and the broker"),
        (plain_text_through_the_network, "broker", "fail", "expected mqtts://", "[mqtt]"),
        (old_protocol, "broker", "warn", "cannot be seen whether it takes messages", "mqtt.protocol"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_broken_is_named_with_its_next_step(
    break_it: Callable[[SetUp], None], name: str, state: str, says: str, next_step: str, device: SetUp
) -> None:
    break_it(device)
    check = device.examined()[name]
    assert (check.state.value, says in check.says, next_step in check.next) == (state, True, True), check


def test_a_sky_that_is_burnt_out_and_blurred_is_no_fault(device: SetUp) -> None:
    top = sky()

    def change(picture: Pixels) -> Pixels:
        changed = picture.copy()
        changed[: top // 2] = 255
        return changed

    device.clip(change)
    found = device.examined()
    assert found["exposure"].state is State.OK, found["exposure"]
    assert found["exposure"].says.endswith("(around the road)")
    assert found["sharpness"].state is State.OK, found["sharpness"]
    (device.folder / "cal.json").unlink()
    assert "burnt out (the whole picture)" in device.examined()["exposure"].says.replace(", 0% black", "")


@pytest.mark.parametrize(("temperature", "state"), [(60, "ok"), (78, "warn"), (85, "fail")])
def test_heat_is_told(temperature: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "temp", f"{temperature}000\n")
    monkeypatch.setattr(edge.machine, "THERMAL_ZONE", tmp_path / "temp")
    found = {check.name: check for check in examine(None)}
    assert found["temperature"].state.value == state
    assert f"{temperature} °C" in found["temperature"].says


def test_a_settings_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such settings file"):
        list(examine(tmp_path / "nothing.toml"))


def test_the_running_service_is_asked(device: SetUp) -> None:
    with StatusSocket(device.folder / "status", lambda: {"state": "degraded", "reasons": ["camera_moved"]}):
        check = device.examined()["service"]
    assert (check.state, check.says) == (State.WARN, "runs, degraded: camera_moved")


@pytest.mark.parametrize(
    ("camera", "state", "says"),
    [
        ({"last_frame_s": 0.1, "frames_per_s": 20.0, "trouble": None}, "ok", "gets 20.00 frames a second"),
        ({"last_frame_s": 0.1, "frames_per_s": 5.0, "trouble": None}, "warn", "gets 5.00 frames a second"),
        ({"last_frame_s": 40.0, "frames_per_s": 20.0, "trouble": None}, "fail", "no frame for 40 s"),
        (
            {"last_frame_s": 40.0, "frames_per_s": 20.0, "trouble": "the picture is black"},
            "fail",
            "the picture is black",
        ),
    ],
)
def test_a_camera_that_the_service_has_to_itself_is_left_to_it(
    camera: dict[str, object], state: str, says: str, device: SetUp
) -> None:
    no_camera(device)
    with StatusSocket(device.folder / "status", lambda: {"state": "ready", "reasons": [], "camera": camera}):
        check = device.examined()["source"]
    assert (check.state.value, says in check.says) == (state, True), check


# ----------------------------------------------------------------------------------------------- brokers that are wrong


def over_tls(device: SetUp, authority: Path, broker: Mosquitto, *, host: str = "localhost", ca: str = "ca.pem") -> None:
    device.keys |= {
        "mqtt.url": f'"mqtts://{host}:{broker.port}"',
        "mqtt.ca_file": f'"{authority / ca}"',
        "mqtt.cert_file": f'"{authority / "device.pem"}"',
        "mqtt.key_file": f'"{authority / "device.key"}"',
    }


@pytest.mark.parametrize(
    ("certificate", "host", "ca", "says"),
    [
        pytest.param("broker", "localhost", "other-ca.pem", "self-signed certificate", id="another authority"),
        pytest.param("broker", "127.0.0.1", "ca.pem", "IP address mismatch", id="another name"),
        pytest.param("expired", "localhost", "ca.pem", "certificate has expired", id="expired"),
    ],
)
def test_a_broker_that_cannot_prove_who_it_is(
    certificate: str, host: str, ca: str, says: str, device: SetUp, authority: Path
) -> None:
    with tls_broker(device.folder / "tls", authority, certificate) as broker:
        over_tls(device, authority, broker, host=host, ca=ca)
        found = device.examined()
    for name in ("broker", "broker certificate"):
        assert found[name].state is State.FAIL
        assert says in found[name].says
        assert found[name].next


def test_certificates_that_end_soon_are_told_with_their_days(device: SetUp, authority: Path) -> None:
    with tls_broker(device.folder / "tls", authority) as broker:
        over_tls(device, authority, broker)
        found = device.examined()
    for name in ("broker certificate", "device certificate"):
        assert found[name].state is State.WARN
        assert "1 days left" in found[name].says
    assert found["broker"].state is State.OK


def test_a_broker_that_lets_the_device_in_and_refuses_its_messages(device: SetUp, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "strict", acl="pattern write snellius/1/amersfoort/%u/#\n") as strict:
        device.keys["mqtt.url"] = f'"{strict.url}"'
        check = device.examined()["broker"]
    assert check.state is State.FAIL
    assert "refuses snellius/1/hilversum/hvs-0042/trial: Not authorized" in check.says
    assert "write snellius/1/hilversum/hvs-0042/#" in check.next


def test_a_broker_that_does_not_know_the_device(device: SetUp, tmp_path: Path) -> None:
    put(tmp_path / "users", "")
    with Mosquitto(tmp_path / "strict", config=f"password_file {tmp_path / 'users'}\nallow_anonymous false") as strict:
        device.keys["mqtt.url"] = f'"{strict.url}"'
        check = device.examined()["broker"]
    assert check.state is State.FAIL
    assert "refused user 'hvs-0042'" in check.says
