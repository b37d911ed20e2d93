"""``snellius privacy``: what this device does with data, from its settings.

Everything that is printed here follows from the settings and from constants of the modules that do it, so that it
cannot say anything else than what happens. What is claimed is proven by the tests in ``tests/privacy``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edge.settings import Settings

NEVER = (
    "No picture, part of a picture, number plate, face or track is written to a disk or sent.",
    "No time, speed, length or class of a single vehicle is logged or sent; the disk holds counters only.",
    "No port is opened: the device connects, nobody connects to it. On the device itself root may ask how it is"
    " (snellius status), and hears no number that comes from traffic.",
    "No command but 'send these released numbers again' is understood.",
)
NOT_GUARANTEED = (
    "It is no differential privacy: who knows all other vehicles of a window can learn about the last one.",
    "The time at which a window ends tells that the k-th vehicle came in its last slot.",
    "Single bins of a histogram may be small, and unmeasured vehicles are counted without a least number.",
    "The counters of an open window stand on the device's disk; on a quiet street they may count one vehicle.",
    "Who opens the housing while it runs can put another program in its place; the camera itself could be misused.",
)


def privacy(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings file. Left out: what holds with default settings.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what this device does with data: what it sees, keeps, writes and sends, to whom, and what is not promised.

    Example: snellius privacy --config /etc/snellius/snellius.toml
    """
    from edge.settings import load_settings

    found = facts(load_settings(config) if config is not None else None)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else in_words(found))


def facts(settings: Settings | None) -> dict[str, Any]:
    """What a device with these settings does with data; None: with default settings.

    Raises:
        BadInput: The address of the broker is wrong.
    """
    from edge.aggregate.anonymity import MOST_DELAY_S
    from edge.aggregate.windows import SLOT_S
    from edge.domain import DAY_BEGINS_H, PrivacyRule
    from edge.publish import Address
    from edge.publish.contract import CHANNELS
    from edge.publish.profiles.homeassistant import BIRTH_TOPIC
    from edge.publish.profiles.native import LAB_ROOT, ROOT
    from edge.settings import LabSettings, MqttSettings, OutboxSettings, PrivacySettings, SiteSettings

    site = settings.site if settings else SiteSettings.model_construct(city="<city>", device="<device>")
    lab, least = (settings.lab, settings.privacy) if settings else (LabSettings(), PrivacySettings())
    mqtt, outbox = (settings.mqtt, settings.outbox) if settings else (MqttSettings(), OutboxSettings())
    address = Address.parse(mqtt.url)
    names = {
        "root": LAB_ROOT if lab.enabled else ROOT,
        "city": site.city,
        "device": site.device,
        "direction": "<direction>",
        "apiKey": "<key>",
    }
    spoken = [channel for channel in CHANNELS if channel.profile in mqtt.profiles]
    return {
        "device": f"{site.city}/{site.device}",
        "source": settings.source.url if settings else "<source>",
        "rule": {
            "name": (PrivacyRule.LAB if lab.enabled else PrivacyRule.CARRY_OVER).value,
            "k": lab.k if lab.enabled else least.k,
            "slot_s": lab.slot_s if lab.enabled else SLOT_S,
            "release_delay_s": 0.0 if lab.enabled else MOST_DELAY_S,
            "day_begins": f"{DAY_BEGINS_H:02}:00 {site.timezone}",
        },
        "writes": [
            {
                "path": str(outbox.file),
                "what": "released windows and day mixes, and counters of open windows",
                "kept_days": outbox.retention_days,
                "largest_mb": outbox.max_mb,
                "beside_it": [f"{outbox.file}{end}" for end in ("-wal", "-shm", "-reserve", ".damaged")],
            }
        ],
        "sends": [
            {"topic": channel.address.format(**names), "what": channel.title, "profile": channel.profile}
            for channel in spoken
            if channel.sent_by == "device"
        ],
        "hears": [
            *(
                {"topic": channel.address.format(**names), "what": channel.title}
                for channel in spoken
                if channel.sent_by == "platform"
            ),
            *(
                [{"topic": BIRTH_TOPIC, "what": "Home Assistant has started"}]
                if "homeassistant" in mqtt.profiles
                else []
            ),
        ],
        "receiver": {"address": str(address), "encrypted": address.is_tls, "this_computer": address.is_loopback},
        "never": list(NEVER),
        "not_guaranteed": list(NOT_GUARANTEED),
        "warnings": _warnings(lab_is_on=lab.enabled, forced=lab.force and not address.is_loopback),
    }


def _warnings(*, lab_is_on: bool, forced: bool) -> list[str]:
    if not lab_is_on:
        return []
    warnings = ["Lab mode: windows may hold a single vehicle. Only where everybody in the picture knows."]
    if forced:
        warnings.append("Lab mode with a broker on another computer was forced.")
    return warnings


def in_words(found: dict[str, Any]) -> str:
    """The facts as a page for people."""
    rule, receiver = found["rule"], found["receiver"]
    where = "this computer" if receiver["this_computer"] else receiver["address"]
    lines = [
        *(f"WARNING: {warning}" for warning in found["warnings"]),
        f"What {found['device']} does with data",
        "",
        f"Sees      {found['source']}. A picture lives in memory until the next one; what was seen of a vehicle, until",
        "          it has passed and its window has closed.",
        f"Counts    per direction, in slots of {rule['slot_s'] / 60:g} minutes. A window is released when it holds",
        f"          {rule['k']} measured vehicles or more; fewer wait for the next slot. Rule: {rule['name']}.",
        f"          It leaves when the one after it is full, up to {rule['release_delay_s']:g} s later at random.",
        f"          Traffic days begin at {rule['day_begins']}.",
    ]
    for file in found["writes"]:
        lines += [
            f"Writes    {file['path']} (and its journal): {file['what']}.",
            f"          What was sent is deleted after {file['kept_days']} days; at most {file['largest_mb']} MB.",
        ]
    lines.append(f"Sends     to {where}, {'encrypted (TLS, verified)' if receiver['encrypted'] else 'not encrypted'}:")
    lines += [f"          {each['topic']}  {each['what']}" for each in found["sends"]]
    lines.append("Hears     from there:")
    lines += [f"          {each['topic']}  {each['what']}" for each in found["hears"]]
    for title, sentences in (("Never", found["never"]), ("Not guaranteed", found["not_guaranteed"])):
        lines += ["", title, *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines)
