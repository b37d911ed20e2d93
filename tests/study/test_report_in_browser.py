"""The report in a real Chromium, as a resident opens it on a phone and an engineer prints it."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from edge.publish.payload import Flow
from edge.study import Question, study
from edge.study.pictures import Heat
from edge.study.report import report_html
from tests.support.browser import headless_chromium
from tests.support.snelliuslaan import AFTER, BEFORE, ROADS, STREET, published_months

PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with the most warnings and the widest tables."""
    flows = [each.message for each in published_months(ROADS[:1], first=BEFORE[0]) if isinstance(each.message, Flow)]
    answer = study(Question(STREET, (), BEFORE, AFTER), {STREET: flows}, {STREET: {}})
    heat = Heat(1, {(day, hour): 30.0 + hour / 2 for day in range(7) for hour in range(24)}, {(0, 4): None})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(answer, heat=heat, now=datetime(2026, 6, 1, tzinfo=timezone.utc)), encoding="utf-8")
    return path


def test_the_report_is_read_in_either_language_at_any_width_and_printed(report: Path) -> None:
    with headless_chromium() as browser:
        for width, height in (PHONE, DESKTOP):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
            )
            browser.get(report.as_uri())
            for language, heading in (("en", "Did the measure work?"), ("nl", "Heeft de maatregel gewerkt?")):
                browser.find_element(By.CSS_SELECTOR, f'label[for="{language}"]').click()
                shown = [each for each in browser.find_elements(By.TAG_NAME, "h1") if each.is_displayed()]
                assert [each.text for each in shown] == [heading]
                assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
            answer = browser.find_element(By.CSS_SELECTOR, 'main[lang="nl"] .answer')
            assert answer.location["y"] + answer.size["height"] < height  # seen without scrolling
        pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
        assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
        said = [each["message"] for each in browser.get_log("browser")]
        asked = [each["message"] for each in browser.get_log("performance") if "requestWillBeSent" in each["message"]]
    assert said == []
    assert all("report.html" in each for each in asked)
