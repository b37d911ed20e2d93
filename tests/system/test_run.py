"""The service as a process of its own, on the bundled street, with a real broker that may vanish."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.publish.payload import Flow, State, Status
from edge.status_socket import ask
from tests.support.mosquitto import Mosquitto, Subscriber, eventually
from tests.support.pole import configured, running
from tests.support.street import shortened_street

FRAMES = 160  # eight seconds of the bundled street, a few vehicles each way
BROKER_AWAY_S = 8.0


@pytest.fixture(scope="module")
def short_street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shortened_street(tmp_path_factory.mktemp("street") / "short.mp4", frames=FRAMES)


def _settings(folder: Path, broker: Mosquitto, source: Path, *, loop: bool, pace: str = "full") -> Path:
    more = f'loop = {str(loop).lower()}\npace = "{pace}"\nstart = 2026-11-23T06:30:00Z'
    return configured(folder, broker=broker.url, source=str(source), source_more=more)


def _flows(platform: Subscriber) -> list[Flow]:
    return [Flow.model_validate_json(message.payload) for message in platform.messages if "/flow/" in message.topic]


def _holes(platform: Subscriber) -> set[int]:
    """Numbers below the highest that have not arrived."""
    numbers = _numbers(platform)
    return set(range(1, max(numbers) + 1)) - set(numbers)


def _numbers(platform: Subscriber) -> list[int]:
    """Of everything numbered, in the order of arrival."""
    return [
        json.loads(each.payload)["seq"] for each in platform.messages if "/flow/" in each.topic or "/mix" in each.topic
    ]


def test_a_clip_played_once_is_published_and_the_service_ends_well(
    tmp_path: Path, mosquitto: Mosquitto, short_street: Path
) -> None:
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        with running(_settings(tmp_path, mosquitto, short_street, loop=False)) as service:
            assert service.wait(180) == 0
        eventually(lambda: _last_state(platform) is State.STOPPED)
        flows = _flows(platform)
    assert sum(flow.speed.n for flow in flows) >= 2
    numbers = _numbers(platform)
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_window_arrives_once_although_the_broker_was_away(tmp_path: Path, short_street: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", persistent=True) as broker,
        Subscriber(broker.port, "snellius-lab/#") as platform,
        running(_settings(tmp_path, broker, short_street, loop=True)) as service,
    ):
        eventually(lambda: len(_numbers(platform)) >= 2, within_s=180, what="windows before")
        broker.kill()
        before = len(_numbers(platform))
        time.sleep(BROKER_AWAY_S)
        assert service.poll() is None
        broker.start()
        eventually(lambda: len(_numbers(platform)) >= before + 4, within_s=180, what="windows after")
        # What the broker took before the platform was back is a hole in the numbers, and can be asked for again.
        if _holes(platform):
            command = {"from": min(_holes(platform)), "to": max(_holes(platform))}
            platform.publish("snellius-lab/1/hilversum/hvs-0042/cmd", json.dumps(command).encode())
            eventually(lambda: not _holes(platform), within_s=30, what="the windows that were missed")
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
        eventually(lambda: _last_state(platform) is State.STOPPED)
        numbers = _numbers(platform)
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    # A message that was under way when the broker died may come twice, with the same number.
    assert len(numbers) - len(set(numbers)) <= 10


def test_a_killed_service_goes_on_with_the_next_number(
    tmp_path: Path, mosquitto: Mosquitto, short_street: Path
) -> None:
    config = _settings(tmp_path, mosquitto, short_street, loop=True)
    with Subscriber(mosquitto.port, "snellius-lab/#") as platform:
        with running(config) as service:
            eventually(lambda: len(_numbers(platform)) >= 2, within_s=180)
            service.send_signal(signal.SIGKILL)
            service.wait(10)
        before = max(_numbers(platform))
        with running(config) as service:
            eventually(lambda: max(_numbers(platform)) >= before + 2, within_s=180)
            service.send_signal(signal.SIGTERM)
            assert service.wait(20) == 0
        flows = _flows(platform)
        numbers = _numbers(platform)
    assert len({flow.epoch for flow in flows}) == 1
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))


def test_a_real_pace_takes_the_time_of_the_clip(tmp_path: Path, mosquitto: Mosquitto, short_street: Path) -> None:
    began_s = time.monotonic()
    with running(_settings(tmp_path, mosquitto, short_street, loop=False, pace="real")) as service:
        assert service.wait(180) == 0
    assert time.monotonic() - began_s >= FRAMES / 20


def test_without_a_broker_the_service_waits_and_says_so(tmp_path: Path, short_street: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config = _settings(tmp_path, broker, short_street, loop=True)
    with running(config) as service:
        eventually(
            lambda: (ask(tmp_path / "status") or {}).get("broker", {}).get("trouble"), within_s=180, what="trouble"
        )
        assert service.poll() is None
        service.send_signal(signal.SIGTERM)
        _, said = service.communicate(timeout=20)
    assert service.returncode == 0
    assert "no connection to the broker" in said
    assert "Traceback" not in said


def _last_state(platform: Subscriber) -> Any:
    heard = platform.on("/status")
    return Status.model_validate_json(heard[-1].payload).state if heard else None


def test_the_running_service_says_how_it_is_and_no_number_of_the_traffic(
    tmp_path: Path, mosquitto: Mosquitto, short_street: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _settings(tmp_path, mosquitto, short_street, loop=True, pace="real")

    def told() -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["status", "--config", str(config), "--json"])
        said = capsys.readouterr().out
        return dict(json.loads(said)) if ended.value.code == 0 else {}

    assert told() == {}, "nobody runs yet"
    with running(config) as service:
        eventually(lambda: told().get("camera", {}).get("frames_per_s"), within_s=180, what="frames")
        eventually(lambda: told()["broker"]["connected"], what="connection")
        said = told()
        assert set(said) == {
            "device", "version", "state", "reasons", "since", "uptime_s",
            "camera", "gate", "coverage", "clock", "broker", "queue", "last_publish",
        }  # fmt: skip
        assert said["camera"]["size_px"] == [960, 540]
        assert 0 <= said["camera"]["last_frame_s"] < 30
        assert 15 < said["camera"]["frames_per_s"] < 25
        assert 0 < said["coverage"] <= 1
        service.send_signal(signal.SIGSTOP)
        with pytest.raises(SystemExit):
            main(["status", "--config", str(config)])
        assert "does not answer" in capsys.readouterr().err
        service.send_signal(signal.SIGCONT)
        service.send_signal(signal.SIGTERM)
        assert service.wait(180) == 0
    assert told() == {}
