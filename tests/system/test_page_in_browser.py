"""The calibration page in a real Chromium: from an empty page to a saved calibration that agrees with the truth."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from calibration import Calibration, read_site, read_survey
from calibration.page import PageServer, Workbench
from calibration.still import Still, street_without_traffic
from edge.cli.calibrate_capture import spread_frames
from edge.settings import SourceSettings
from tests.calibration.surveys import scene_truth
from tests.support.browser import headless_chromium
from tests.support.clips import ROOT
from tests.support.street import STREET

WIDE, TABLET = (1280, 800), (800, 1280)
SURVEY, SITE = STREET.with_name("survey.csv"), STREET.with_name("site.toml")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled street without its traffic."""
    frames, _ = spread_frames(SourceSettings(url=str(STREET)), 20.0)
    path = tmp_path_factory.mktemp("still") / "still.png"
    Still(image_bgr=street_without_traffic([f.image_bgr for f in frames])[0], taken=None, expires=None).save(path)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """A headless Chromium that may reach nothing but this computer."""
    with headless_chromium() as browser:
        yield browser


class Page:
    """The page as hands and eyes meet it."""

    def __init__(self, browser: webdriver.Chrome, address: str, size_px: tuple[int, int]) -> None:
        self.browser = browser
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size_px[0], "height": size_px[1], "deviceScaleFactor": 1, "mobile": False},
        )
        browser.get(address)
        self.settled()
        for kind in ("performance", "browser"):  # what the page before this one had to say
            browser.get_log(kind)

    def __getitem__(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def settled(self) -> None:
        """Waits until the device has answered to the last change."""
        WebDriverWait(self.browser, 60, poll_frequency=0.05).until(
            lambda _: (
                self["#kept"].text in ("kept on the device", "bewaard op het apparaat")
                or "restored" in self["#kept"].text
            )
        )

    def step(self, name: str) -> None:
        self[f"#tab-{name}"].click()

    def on_screen(self, u: float, v: float) -> tuple[float, float]:
        """Where a pixel of the still lies in the canvas while it fits."""
        canvas = self["#picture"].rect
        scale = min(canvas["width"] / 960, canvas["height"] / 540)
        left, top = (canvas["width"] - scale * 960) / 2, (canvas["height"] - scale * 540) / 2
        return (u + 0.5) * scale + left, (v + 0.5) * scale + top

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event at a fraction of a pixel of the screen, within the canvas."""
        canvas = self["#picture"].rect
        event = {"type": kind, "x": canvas["x"] + x, "y": canvas["y"] + y, **more}
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def click(self, u: float, v: float) -> None:
        x, y = self.on_screen(u, v)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def type(self, field: str | WebElement, text: str) -> None:
        """In place of what a field holds."""
        found = self[field] if isinstance(field, str) else field
        found.send_keys(Keys.CONTROL, "a", Keys.NULL, text)

    def chosen_pixel(self) -> tuple[float, float]:
        return tuple(float(self[f"#selected-{axis}"].get_attribute("value") or "nan") for axis in "uv")  # type: ignore[return-value]

    def mark_exactly(self, u: float, v: float) -> None:
        """A mark: clicked, then moved by keys to the tenth of a pixel, as one does with the loupe."""
        self.click(u, v)
        at = self.chosen_pixel()
        for keys, off in (
            ((Keys.ARROW_LEFT, Keys.ARROW_RIGHT), u - at[0]),
            ((Keys.ARROW_UP, Keys.ARROW_DOWN), v - at[1]),
        ):
            self.press(*[keys[int(off > 0)]] * abs(round(off * 10)))

    def foreign_requests(self) -> list[str]:
        """Addresses asked for since the last time that are not this computer's."""
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if urlsplit(url).hostname != "127.0.0.1"]

    def complaints(self) -> list[str]:
        """What the browser's console says: errors, refusals by the Content-Security-Policy."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@contextmanager
def served(
    still: Path, folder: Path, *, surveyed: bool = False, language: str = "en", port: int = 0
) -> Iterator[PageServer]:
    bench = Workbench(
        image_size_px=(960, 540),
        folder=folder,
        survey=read_survey(SURVEY) if surveyed else None,
        site=read_site(SITE) if surveyed else None,
    )
    server = PageServer(still=Still.load(still), workbench=bench, language=language, port=port)
    thread = threading.Thread(target=server.serve_until_saved)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(timeout=10)


def test_from_an_empty_page_to_a_calibration_that_agrees_with_the_truth(
    chromium: webdriver.Chrome, still: Path, tmp_path: Path
) -> None:
    truth, places_m, pixels = scene_truth("S1-residential-day")
    with served(still, tmp_path) as server:
        page = Page(chromium, server.address, WIDE)
        chromium.refresh()  # its own requests are counted from the first
        page.settled()
        assert "0 of 4 marks" in page["#state"].text
        for pixel in pixels:
            page.mark_exactly(*pixel)
        page.settled()
        rows = page.all("#marks tbody tr")
        assert len(rows) == len(places_m) == 16
        for row, place in zip(rows, places_m):
            for field, metres in zip(row.find_elements(By.CSS_SELECTOR, ".x input, .y input"), place):
                field.send_keys(f"{metres:.2f}".replace(".", ","))  # as the decimal key of a Dutch tablet writes it
        page.settled()

        page.step("zone")
        for end in ((12.0, 0.0), (32.0, 0.0)):
            page.click(*truth.project([(*end, 0.0)])[0])
        page.settled()
        page.type("#width", "5.5")
        page["#rectangle"].click()
        page.settled()
        assert len(page.all("#zone li")) == 4

        page.step("site")
        for key, text in (("id", "s1-street"), ("limit_kmh", "30"), ("forward", "out"), ("backward", "in")):
            page.type(f"#site-{key}", text)
        page.settled()
        page.step("result")
        assert page["#result .verdict"].text.startswith("Good: the calibration adds at most")
        assert page["#state"].text.startswith("good")
        page["#save"].click()
        WebDriverWait(chromium, 60).until(lambda _: page["#ended"].is_displayed())
        assert "Saved" in page["#ended"].text
        assert page.foreign_requests() == []
        assert page.complaints() == []

    calibration = Calibration.load(tmp_path / "cal.json")
    camera, sigma = calibration.plane.camera, np.sqrt(np.diag(calibration.plane.covariance))
    assert server.saved is not None
    assert calibration.id == server.saved.id
    assert abs(camera.focal_px - truth.focal_px) < 1.96 * camera.focal_px * sigma[0]
    assert abs(camera.height_m - truth.height_m) < 1.96 * sigma[10]
    assert (np.abs(camera.position_m - truth.position_m) < 1.96 * sigma[8:]).all()
    assert calibration.site.length_m == pytest.approx(20.0, abs=0.2)
    assert calibration.verdict.value == "good"
    survey = read_survey(tmp_path / "survey.csv")
    assert np.abs(survey.pixels - pixels).max() < 0.11
    assert np.abs(survey.points_m - places_m).max() < 0.006


def test_work_survives_a_reload_and_a_killed_server(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    with served(still, tmp_path) as server:
        port = int(server.server_address[1])
        page = Page(chromium, server.address, WIDE)
        page.click(300, 400)
        page.click(600, 300)
        page.settled()
        chromium.refresh()
        page.settled()
        assert len(page.all("#marks tbody tr")) == 2
    page.click(500, 450)  # the device is gone
    WebDriverWait(chromium, 60).until(lambda _: "device not reached" in page["#kept"].text)
    assert len(page.all("#marks tbody tr")) == 3
    with served(still, tmp_path, port=port) as server:
        page = Page(chromium, server.address, WIDE)
        assert len(page.all("#marks tbody tr")) == 3
        assert page["#kept"].text == "restored from this browser"
        WebDriverWait(chromium, 60).until(lambda _: len(server.workbench.draft.marks) == 3)
    assert json.loads((tmp_path / "draft.json").read_text())["draft"]["points"][2]["name"] == "P3"


def test_a_typo_is_named_where_it_was_typed(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    with served(still, tmp_path, surveyed=True) as server:
        page = Page(chromium, server.address, WIDE)
        assert page["#state"].text == "good Everything is there."
        row = page.all("#marks tbody tr")[4]
        field = row.find_element(By.CSS_SELECTOR, ".x input")
        page.type(field, "22.002")
        page.settled()
        assert "suspect" in (row.get_attribute("class") or "")
        assert re.search(r"refuse survey\.csv line 6 \(P5\): stated at \(22\.00, -4\.70\) m", page["#state"].text)
        assert not page["#save"].is_enabled()
        row.find_element(By.CSS_SELECTOR, ".use input").click()
        page.settled()
        assert page["#state"].text.startswith("good")
        page["#undo"].click()
        page["#undo"].click()
        page.settled()
        assert field.get_attribute("value") == "12.002"
        field.send_keys("x")
        page.settled()
        assert field.get_attribute("aria-invalid") == "true"
        assert "survey.csv line 6 (P5): x_m: expected metres, got '12.002x'" in page["#state"].text
        assert page.complaints() == []


def test_the_page_speaks_dutch_to_the_last_line(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    with served(still, tmp_path, surveyed=True, language="nl") as server:
        page = Page(chromium, server.address, TABLET)
        assert chromium.execute_script("return document.documentElement.lang") == "nl"
        assert page["#tab-marks"].text.endswith("Merken")
        assert page["#state"].text == "goed Alles is er."
        field = page.all("#marks tbody tr")[4].find_element(By.CSS_SELECTOR, ".x input")
        page.type(field, "22,002")
        page.settled()
        assert "survey.csv regel 6 (P5): opgegeven op (22.00, -4.70) m, geklikt waar volgens" in page["#state"].text
        page.step("result")
        assert page["#result .verdict"].text == "Afgekeurd: snelheden mogen niet worden gepubliceerd."
        Select(page["#language"]).select_by_value("en")
        assert page["#result .verdict"].text == "Refuse: speeds may not be published."
        chromium.execute_script("localStorage.clear()")
        empty = chromium.execute_async_script(
            "const done = arguments[0]; import(new URL('texts.js', location.href)).then(({ TEXTS }) => done("
            "Object.entries(TEXTS).filter(([, text]) => !text.en || !text.nl).map(([key]) => key)))"
        )
        assert empty == []


def test_what_the_solver_says_is_said_in_dutch(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    """Every sentence that surveys of all kinds provoke changes in translation, and keeps its numbers and names."""
    english = [
        "survey.csv line 3 (P2): u_px: expected 0 to 959, got 2000 (outside a picture of 960x540; is --image-size"
        " right?)",
        "survey.csv line 4 (P3): x_m, y_m: the same as P1; expected a different place for every point",
        "survey.csv: points P1, P2, P3 lie on one line (within 0.05 m); expected points on both sides of the road,"
        " at least two off any line",
        "survey.csv line 2 (P1) and survey.csv line 7 (P6): exchanged; swapped, they fit all others",
        "survey.csv: x_m, y_m: expected a right-handed frame (seen from above, y to the left of x), got mirrored axes:"
        " exchange x_m and y_m, or change the sign of one",
        "survey.csv: the points contradict each other: one of P1, P2 must be wrong; 5 points cannot tell which, survey"
        " more (or the stated sigmas are too small)",
        "only 5 points: a wrong one could go unnoticed; 8 or more are advised",
        "camera height 17.20 ± 0.20 m: expected 2.5 to 15 m (or the true mount_height_m in the site file); feet given"
        " as metres look like that",
        "12% of the zone lies outside the picture",
        "speed uncertainty reaches 3.4% in the zone, more than 3.0%; the zone reaches 6.2 m beyond the surveyed points",
        "distance P1 to P4: 12.40 m contradicts the others, which say 14.21 m",
        "P12 is not held by the distances: expected coordinates, or at least two distances from each mark to marks that"
        " are held (three marks hold each other)",
        "site.toml line 3: site.limit_kmh: expected a whole number from 5 to 130, got 300",
        "--lens: expected the lens of this camera, got lens-2026-11-23-7f3a (focal length 1200 px); the points agree"
        " with each other and with a focal length of 735 px",
        "130 px/m: sharp enough to recognise people (EN 62676-4: 125)",
    ]
    with served(still, tmp_path) as server:
        Page(chromium, server.address, WIDE)
        dutch = chromium.execute_async_script(
            "const done = arguments[1]; import(new URL('texts.js', location.href)).then(({ said }) =>"
            " done(arguments[0].map((line) => said(line, 'nl'))))",
            english,
        )
    left = re.compile(r"\b(expected|got|the|and|more|points|picture|other|others|reaches|must|enough|with)\b")
    for line, translated in zip(english, dutch):
        assert translated != line
        assert not left.search(translated), translated
        assert [n for n in re.findall(r"P?\d+(?:\.\d+)?", translated) if n not in line] == []


def test_keys_alone_place_and_move_a_mark(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    with served(still, tmp_path) as server:
        page = Page(chromium, server.address, WIDE)
        chromium.execute_script("document.getElementById('picture').focus()")
        page.press("n")
        middle = page.chosen_pixel()
        assert middle == pytest.approx((479.5, 269.5), abs=0.02)
        page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
        ActionChains(chromium).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT).key_up(Keys.SHIFT).perform()
        assert page.chosen_pixel() == pytest.approx((middle[0] - 0.8, middle[1] + 0.1), abs=0.011)
        assert page["#spoken"].get_attribute("textContent").startswith("P1: u 478.7")  # type: ignore[union-attr]
        page.press("n", Keys.PAGE_UP)
        assert page["#selected-name"].text == "P1"
        page.press(Keys.DELETE)
        page.settled()
        assert [mark.name for mark in server.workbench.draft.marks] == ["P2"]


def test_fingers_drag_a_mark_pan_and_zoom(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    def touch(kind: str, *points: tuple[float, float]) -> None:
        canvas = page["#picture"].rect
        at = [{"x": canvas["x"] + x, "y": canvas["y"] + y, "id": i} for i, (x, y) in enumerate(points)]
        chromium.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    with served(still, tmp_path) as server:
        page = Page(chromium, server.address, TABLET)
        x, y = page.on_screen(400, 300)
        touch("touchStart", (x, y))
        touch("touchEnd")
        before = page.chosen_pixel()
        assert before == pytest.approx((400, 300), abs=0.7)
        scale = page.on_screen(1, 0)[0] - page.on_screen(0, 0)[0]
        touch("touchStart", (x + 15, y + 10))  # beside it, so that the finger does not hide it
        touch("touchMove", (x + 35, y + 10))
        assert page["#loupe"].is_displayed()
        touch("touchMove", (x + 45, y - 10))
        touch("touchEnd")
        moved = page.chosen_pixel()
        assert moved == pytest.approx((before[0] + 30 / scale, before[1] - 20 / scale), abs=0.05)
        touch("touchStart", (200, 200), (300, 200))
        touch("touchMove", (150, 200), (350, 200))
        touch("touchEnd")
        assert int(page["#zoom"].text.split()[0]) == pytest.approx(200 * scale, rel=0.03)
        page.settled()
        assert len(server.workbench.draft.marks) == 1  # neither dragging nor pinching made another


def test_every_control_has_a_name_and_fits_the_screen(chromium: webdriver.Chrome, still: Path, tmp_path: Path) -> None:
    nameless = """
      return [...document.querySelectorAll('button, input, select, canvas:not([aria-hidden])')].filter((one) => {
        const label = one.labels?.length ? one.labels[0].textContent : '';
        return !(one.getAttribute('aria-label') || label.trim() || one.textContent.trim());
      }).map((one) => one.outerHTML);
    """
    with served(still, tmp_path, surveyed=True) as server:
        for size in (WIDE, TABLET):
            page = Page(chromium, server.address, size)
            for name in ("marks", "zone", "site", "result"):
                page.step(name)
                assert chromium.execute_script(nameless) == []
                assert chromium.execute_script("return document.documentElement.scrollWidth") <= size[0]
                assert page["#save"].rect["y"] + page["#save"].rect["height"] <= size[1]
                panel = page[f"#panel-{name}"]
                assert chromium.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", panel)


def test_the_command_serves_the_page_and_ends_with_the_technician(still: Path, tmp_path: Path) -> None:
    # Ctrl-C as in a terminal: what a script leaves running in the background ignores it, and so do its children
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from edge.cli import main; main()"
    command = [sys.executable, "-c", start, "calibrate", "page", "--still", str(still)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path), "--listen", "127.0.0.1:0"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[1]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{24}/", address)
        time.sleep(0.2)
    finally:
        process.send_signal(2)  # Ctrl-C
        told = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert f"Not saved. The draft stays in {tmp_path}" in told
