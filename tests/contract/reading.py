"""How a platform reads the contract: with the schema files and nothing of the device's code."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema

from tests.support.clips import ROOT

DOCS = ROOT / "docs" / "mqtt"
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in sorted((DOCS / "schemas").glob("*.schema.json"))}

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_utc_instant(text: object) -> bool:
    if isinstance(text, str):
        datetime.fromisoformat(text.replace("Z", "+00:00"))
        return text.endswith("Z")
    return True


@_formats.checks("date", raises=ValueError)
def _is_date(text: object) -> bool:
    return not isinstance(text, str) or bool(date.fromisoformat(text))


def schema(name: str) -> dict[str, Any]:
    """A schema file."""
    read: dict[str, Any] = json.loads(SCHEMAS[name].read_text(encoding="utf-8"))
    return read


def validator(of: Mapping[str, Any]) -> jsonschema.Draft7Validator:
    """An independent judge of messages, who also checks dates."""
    return jsonschema.Draft7Validator(of, format_checker=_formats)


def closed(of: Any) -> Any:
    """The same schema where no object may hold a field that is not named: what this version of the device promises."""
    if isinstance(of, list):
        return [closed(each) for each in of]
    if not isinstance(of, dict):
        return of
    inner = {key: closed(value) for key, value in of.items()}
    return {"additionalProperties": False, **inner} if "properties" in of else inner


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document."""
    read: dict[str, Any] = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
    return read


def channel_of(topic: str) -> str:
    """Which channel of the AsyncAPI document a topic belongs to, by the document alone."""
    found = [name for name, channel in asyncapi()["channels"].items() if _address(channel).fullmatch(topic)]
    assert len(found) == 1, (topic, found)
    return found[0]


def _address(channel: Mapping[str, Any]) -> re.Pattern[str]:
    def choice(name: str) -> str:
        return "(?:" + "|".join(channel["parameters"][name].get("enum", ["[A-Za-z0-9_-]+?"])) + ")"

    parts = re.split(r"{(\w+)}", channel["address"])
    return re.compile("".join(choice(part) if index % 2 else re.escape(part) for index, part in enumerate(parts)))


def generated_parsers(folder: Path) -> dict[str, Any]:
    """A parser for each schema file, written by a code generator: channel → model."""
    package = folder / "generated"
    subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "datamodel_code_generator",
            "--input",
            str(DOCS / "schemas"),
            "--input-file-type",
            "jsonschema",
            "--output-model-type",
            "pydantic_v2.BaseModel",
            "--target-python-version",
            "3.10",
            "--output",
            str(package),
        ],
        check=True,
        capture_output=True,
    )
    modules = {name: _imported(package / f"{name.replace('-', '_')}_schema.py") for name in SCHEMAS}
    return {name: getattr(module, schema(name)["title"]) for name, module in modules.items()}


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"generated_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # the generated models look their own names up there
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------------- compatibility

KEPT = (
    "type", "const", "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minItems", "maxItems", "minLength", "maxLength",
)  # fmt: skip


def breaking_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a reader of ``old`` would stumble over in messages of ``new``; adding a field is none of it."""
    return list(_broken(old, new, old, new, "$"))


def _broken(
    old: Mapping[str, Any], new: Mapping[str, Any], old_root: Mapping[str, Any], new_root: Mapping[str, Any], at: str
) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    for word in KEPT:
        if old.get(word) != new.get(word):
            yield f"{at}: {word} was {old.get(word)}, is {new.get(word)}"
    if set(old.get("enum", ())) != set(new.get("enum", ())):
        yield f"{at}: the closed list was {old.get('enum')}, is {new.get('enum')}"
    for name in old.get("properties", {}).keys() - new.get("properties", {}).keys():
        yield f"{at}.{name}: removed"
    for name in set(old.get("required", ())) - set(new.get("required", ())):
        yield f"{at}.{name}: may be missing"
    for name in old.get("properties", {}).keys() & new.get("properties", {}).keys():
        yield from _broken(old["properties"][name], new["properties"][name], old_root, new_root, f"{at}.{name}")
    for word in ("items", "additionalProperties", "propertyNames"):
        before, now = old.get(word, {}), new.get(word, {})
        if isinstance(before, dict) and isinstance(now, dict):
            if before or now:
                yield from _broken(before, now, old_root, new_root, f"{at}[{word}]")
        elif before != now:
            yield f"{at}: {word} was {before}, is {now}"
    before, now = old.get("anyOf", []), new.get("anyOf", [])
    if len(before) != len(now):
        yield f"{at}: the choices were {before}, are {now}"
    for index, (one, other) in enumerate(zip(before, now)):
        yield from _broken(one, other, old_root, new_root, f"{at}|{index}")


def _resolved(of: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = of.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] if reference else of
