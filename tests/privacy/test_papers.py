"""The papers say what the software does, in both languages alike."""

from __future__ import annotations

import re

import pytest

from edge.aggregate.anonymity import DEFAULT_K, FLOOR_K, MOST_DELAY_S
from edge.aggregate.windows import SLOT_S
from edge.domain import DAY_BEGINS_H
from edge.domain.histogram import TOP_ABOVE_LIMIT_KMH
from edge.settings import OutboxSettings, PrivacySettings, example_toml
from tests.support.clips import ROOT

PAPERS = ROOT / "docs" / "privacy"
NAMES = ("dpia", "sign", "sensor-register", "limits")


def text(name: str) -> str:
    return (PAPERS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_parts(name: str) -> None:
    dutch, english = (text(f"{name}.{language}") for language in ("nl", "en"))
    for part in (r"(?m)^#+ ", r"(?m)^\d+\. ", r"(?m)^\|", r"\[[^\]]*\](?!\()"):
        assert len(re.findall(part, dutch)) == len(re.findall(part, english)), part


def test_the_numbers_are_those_of_the_software() -> None:
    k, days = PrivacySettings().k, OutboxSettings().retention_days
    assert (k, FLOOR_K) == (DEFAULT_K, 5)
    guarantee = " ".join(text("README").split())
    assert f"at least k measured vehicles ({k} by default, never fewer than {FLOOR_K})" in guarantee
    assert f"At each {SLOT_S // 60}-minute boundary" in guarantee
    assert f"At {DAY_BEGINS_H:02}:00 local time" in guarantee
    for language, days_word, more in (("en", "days", "or more"), ("nl", "dagen", "of meer")):
        assert f"{days} {days_word}" in text(f"sensor-register.{language}")
        assert f"{days} {days_word} (`outbox.retention_days`)" in text(f"dpia.{language}")
        assert f"k = {k} {more}" in text(f"dpia.{language}")
        assert f" {k} {more}" in text(f"sign.{language}")
        limits = " ".join(text(f"limits.{language}").split())
        assert f"+ {TOP_ABOVE_LIMIT_KMH} " in limits
    assert MOST_DELAY_S == 120
    assert "two minutes at random" in " ".join(text("limits.en").split())
    assert "twee minuten toeval" in " ".join(text("limits.nl").split())


def test_every_proof_that_is_named_exists() -> None:
    named = re.findall(r"`((?:tests/|systemd/)?[\w/]+\.(?:py|service))`", text("README"))
    assert len(named) >= 6
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "tests" / "privacy" / name).exists(), name
    for module in re.findall(r"`python -m ([\w.]+)", text("README")):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()


def test_links_lead_to_files_and_settings_exist() -> None:
    for paper in sorted(PAPERS.glob("*.md")):
        said = paper.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#:]+)\)", said) if not (PAPERS / link).exists()]
        assert links == [], paper.name
        for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", said):
            assert f"[{section}]" in example_toml()
            assert f"{key} =" in example_toml()
