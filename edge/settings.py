"""What can be set on a device: one TOML file, and the environment for what a fleet wants to override.

A setting in the environment (``SNELLIUS_MQTT__URL=mqtts://…``) goes before the file. Unknown keys are refused, every
wrong setting is told at once, and secrets are named by the file that holds them, never written here. Relative paths
start at the folder of the settings file.
"""

from __future__ import annotations

import difflib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from edge.errors import BadInput, BadSettings
from edge.sources.address import SourceKind, kind_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "SNELLIUS_"
K_FLOOR = 5  # vehicles; below this a released window says too much about single people
LAB_SLOT_FLOOR_S = 10


def _named_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"expected a time zone such as Europe/Amsterdam, got '{name}'") from None
    return name


def _instant(text: object) -> object:
    """ISO 8601 as Python 3.10 reads it: a final Z is spelt out."""
    return text[:-1] + "+00:00" if isinstance(text, str) and text.endswith(("Z", "z")) else text


def _with_offset(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with its offset, such as {instant.isoformat()}+01:00")
    return instant


def _readable_source(url: str) -> str:
    try:
        kind_of(url)
    except BadInput as wrong:
        raise ValueError(str(wrong)) from None
    return url


def _broker(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError(f"expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], got '{parts.scheme}://…'")
    if parts.username or parts.password:
        raise ValueError(
            "expected no user name or password in the address (the user is site.device; see password_file)"
        )
    return url


def _with_native(profiles: tuple[str, ...]) -> tuple[str, ...]:
    if "native" not in profiles or len(set(profiles)) < len(profiles):
        raise ValueError("expected 'native' among the profiles, and each of them once")
    return profiles


Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=64)]
Zone = Annotated[str, AfterValidator(_named_zone)]
Instant = Annotated[datetime, BeforeValidator(_instant), AfterValidator(_with_offset)]
SourceUrl = Annotated[str, AfterValidator(_readable_source)]
BrokerUrl = Annotated[str, AfterValidator(_broker)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteSettings(_Section):
    """Where the device hangs and what it is called."""

    city: Identifier = Field(description="City, as it stands in the topics: a-z 0-9 -.", examples=["hilversum"])
    device: Identifier = Field(
        description="Name of this device; also its MQTT client id and user name: a-z 0-9 -.", examples=["hvs-0042"]
    )
    id: Identifier | None = Field(
        default=None,
        description="Name of the site. Left out: the one in the calibration.",
        examples=["hvs-snelliuslaan-12"],
    )
    timezone: Zone = Field(default="Europe/Amsterdam", description="Time zone in which a traffic day begins at 04:00.")


class SourceSettings(_Section):
    """Where the frames come from."""

    url: SourceUrl = Field(
        description="Path of a video file, rtsp://HOST/PATH, /dev/videoN, or picamera: (picamera:1 for a second one).",
        examples=["street.mp4"],
    )
    username: str | None = Field(default=None, description="User name for a network camera.", examples=["viewer"])
    password_file: Path | None = Field(
        default=None, description="File that holds the password for a network camera.", examples=["camera-password"]
    )
    loop: bool = Field(default=False, description="Start a file again when it ends, for ever.")
    pace: Literal["real", "full"] = Field(
        default="real", description="Play a file in real time, or as fast as this computer measures."
    )
    start: Instant | None = Field(
        default=None,
        description="When the first frame of a file was taken (ISO 8601 with offset). Left out: now, when the pace is "
        "real; 1970 with the clock told as unset, when it is full.",
        examples=["2026-11-23T07:30:00+01:00"],
    )

    readout_ms: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="Rolling shutter: how much later the last row of a picture is exposed than the first, as the "
        "camera's data sheet says (0: all rows at once).",
        examples=[16.7],
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> SourceSettings:
        if kind_of(self.url).is_live and (self.loop or self.start is not None or self.pace != "real"):
            raise ValueError("expected loop, pace and start for a file only, not for a camera")
        if self.password_file is not None and self.username is None:
            raise ValueError("expected username beside password_file")
        return self


class CalibrationSettings(_Section):
    """The calibration of this camera on this pole."""

    file: Path = Field(description="Calibration made by 'snellius calibrate solve'.", examples=["calibration.json"])
    allow_expired: bool = Field(
        default=False,
        description="Measure on with a calibration that has expired; every message is marked calibration_expired.",
    )


class ModelSettings(_Section):
    """The detector."""

    name: str | None = Field(
        default=None,
        description="A model of 'snellius models list'. Left out: the default of the catalogue.",
        examples=["nanodet-640"],
    )
    every_frame: bool = Field(
        default=False,
        description="Run the detector on every frame, even when nothing moves: several times the work for the same "
        "speeds. To compare with.",
    )
    threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processor threads that the detector may use. Two leave half of a four-core computer to the "
        "camera and the rest; more make a look quicker, not cheaper.",
        examples=[4],
    )


class HistogramSettings(_Section):
    """The published speed histogram."""

    bin_kmh: Literal[1, 2, 5] = Field(default=2, description="Width of a bin; must divide the limit. [km/h]")


class PrivacySettings(_Section):
    """How many vehicles a published window holds at least."""

    k: int = Field(default=10, ge=K_FLOOR, description="Measured vehicles in a published window, at least.")


class LabSettings(_Section):
    """Trying out on a bench, with short windows that may hold a single vehicle. Never for a public road."""

    enabled: bool = Field(default=False, description="Publish under snellius-lab/ with the two settings below.")
    k: int = Field(default=1, ge=1, description="Measured vehicles in a published window, at least.")
    slot_s: int = Field(
        default=LAB_SLOT_FLOOR_S, ge=LAB_SLOT_FLOOR_S, le=900, description="Length of a slot; must divide a day. [s]"
    )
    force: bool = Field(default=False, description="Allow lab mode with a broker that is not on this computer.")


class MqttSettings(_Section):
    """The broker."""

    url: BrokerUrl = Field(
        default="mqtt://127.0.0.1:1883",
        description="mqtts://HOST[:PORT], or mqtt:// for a broker on this computer.",
    )
    protocol: Literal["5", "3.1.1"] = Field(
        default="5", description="MQTT version; 5 unless the broker is older: 3.1.1 cannot tell that it refused."
    )
    profiles: Annotated[tuple[Literal["native", "ngsi-ld", "homeassistant"], ...], AfterValidator(_with_native)] = (
        Field(default=("native",), description="Dialects that are spoken, native always among them.")
    )
    ngsi_ld_api_key: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]+$",
        max_length=64,
        description="The key of the IoT Agent's service group; needed for the profile ngsi-ld.",
        examples=["street-speed"],
    )
    password_file: Path | None = Field(
        default=None, description="File that holds the password; the user name is site.device.", examples=["password"]
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates that vouch for the broker (PEM). Left out: those of the system.",
        examples=["ca.pem"],
    )
    cert_file: Path | None = Field(
        default=None, description="This device's certificate (PEM).", examples=["device.pem"]
    )
    key_file: Path | None = Field(
        default=None, description="The key of this device's certificate (PEM).", examples=["device.key"]
    )

    @model_validator(mode="after")
    def _ngsi_ld_has_its_key(self) -> MqttSettings:
        if "ngsi-ld" in self.profiles and self.ngsi_ld_api_key is None:
            raise ValueError("expected ngsi_ld_api_key for the profile ngsi-ld")
        return self


class OutboxSettings(_Section):
    """What waits for the broker, and what was sent."""

    file: Path = Field(default=Path("/var/lib/snellius/outbox.sqlite"), description="The database.")
    retention_days: int = Field(
        default=35, ge=1, le=366, description="Published windows are kept so long, to be sent again on request. [days]"
    )
    max_mb: int = Field(default=64, ge=1, le=4096, description="Size that the database may reach. [MB]")


class ServiceSettings(_Section):
    """Rhythms of the service."""

    checkpoint_s: float = Field(
        default=60, ge=1, le=900, description="Counters are written to disk this often; a power cut costs no more. [s]"
    )
    health_s: float = Field(default=300, ge=5, le=3600, description="Time between two health messages. [s]")
    drain_s: float = Field(
        default=150,
        ge=0,
        le=3600,
        description="At the end of a file that is played once: wait so long for the broker to take what is due. [s]",
    )
    status_socket: Path = Field(
        default=Path("/run/snellius/status"),
        description="Where 'snellius status' reaches the running service; without that folder it cannot be reached.",
    )


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    site: SiteSettings
    source: SourceSettings
    calibration: CalibrationSettings
    model: ModelSettings = ModelSettings()
    histogram: HistogramSettings = HistogramSettings()
    privacy: PrivacySettings = PrivacySettings()
    lab: LabSettings = LabSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = OutboxSettings()
    service: ServiceSettings = ServiceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, and there is nothing else."""
        return env_settings, init_settings


def load_settings(path: Path) -> Settings:
    """Reads a settings file.

    Raises:
        BadInput: The file is missing or no TOML.
        BadSettings: Settings are wrong, or others may read the file although it names where a secret is.
    """
    written = read_toml(path)
    problems = list(_unknown_in_environment(os.environ))
    try:
        settings = Settings(**written)
    except ValidationError as wrong:
        raise BadSettings(str(path), [*(_in_words(error) for error in wrong.errors()), *problems]) from None
    settings = _anchored(settings, path.absolute().parent)
    problems += _exposed_secrets(settings, path)
    if problems:
        raise BadSettings(str(path), problems)
    return settings


def read_toml(path: Path) -> dict[str, Any]:
    """What stands in a settings file, unchecked.

    Raises:
        BadInput: It is missing, cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such settings file") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: expected a settings file, found a directory") from None
    except PermissionError:
        raise BadInput(f"{path}: this user may not read the settings file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected a settings file in TOML, found something that is no text") from None
    except tomllib.TOMLDecodeError as wrong:
        raise BadInput(f"{path}: expected TOML: {str(wrong)[:1].lower()}{str(wrong)[1:]}") from None


# ------------------------------------------------------------------------------------------------ wrong settings


def _in_words(error: ErrorDetails) -> str:
    """One wrong setting as a technician reads it."""
    where = ".".join(str(part) for part in error["loc"])
    origin = ENVIRONMENT_PREFIX + where.replace(".", "__").upper()
    found = next((name for name in os.environ if name.upper() == origin), None)
    return f"{where}: {_complaint(where, error)}" + (f" (from the environment, {found})" if found else "")


def _complaint(where: str, error: ErrorDetails) -> str:
    known = {f"{section}.{name}": field for section, name, field in _fields()}
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(where, [*known, *Settings.model_fields], n=1, cutoff=0.6)
        return "unknown setting" + (f" (did you mean {near[0]}?)" if near else "")
    if kind == "missing":
        field = known.get(where)
        return f"missing ({field.description})" if field else f"the section [{where}] is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "string_pattern_mismatch" and where == "mqtt.ngsi_ld_api_key":
        return "expected only letters, digits, - and _"  # a key is not repeated
    if kind == "string_pattern_mismatch":
        return f"expected only a-z, 0-9 and - (neither first nor last), got '{value}'"
    said = error["msg"].replace("Input should be", "expected").replace("String should have", "expected")
    return f"{said[:1].lower()}{said[1:]}, got {value!r}"


def _unknown_in_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Sections in the environment that do not exist; a wrong name inside a known section is found with the rest."""
    for name in sorted(environment):
        section, nested, _ = name.upper().removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.upper().startswith(ENVIRONMENT_PREFIX) and nested and section not in Settings.model_fields:
            yield f"{section}: unknown section (from the environment, {name})"


def _exposed_secrets(settings: Settings, path: Path) -> Iterator[str]:
    """Whether others may read where the secrets are. The secrets themselves are checked where they are used."""
    named = [f"mqtt.{name}" for name in ("password_file", "key_file") if getattr(settings.mqtt, name) is not None]
    named += ["source.password_file"] if settings.source.password_file is not None else []
    if named and path.stat().st_mode & stat.S_IROTH:
        yield f"{' and '.join(named)} set, but everybody on this computer may read the settings (chmod o= {path})"


# ------------------------------------------------------------------------------------------------ relative paths

_Model = TypeVar("_Model", bound=BaseModel)


def _anchored(model: _Model, folder: Path) -> _Model:
    """The same settings with every relative path made absolute."""
    changed: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            changed[name] = _anchored(value, folder)
        elif isinstance(value, Path):
            changed[name] = _handed_over(value) or folder / value
        elif isinstance(model, SourceSettings) and name == "url" and kind_of(value) is SourceKind.FILE:
            parts = urlsplit(value)
            changed[name] = str(folder / (unquote(parts.path) if parts.scheme == "file" else value))
    return model.model_copy(update=changed)


def _handed_over(path: Path) -> Path | None:
    """A secret of the folder ``credentials`` as systemd hands it to the service (LoadCredential), where it does."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given is None or path.parent.name != "credentials":
        return None
    handed = Path(given, path.name)
    return handed if handed.exists() else None


# ----------------------------------------------------------------------------------------------- reference pages


def _fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Section, key and definition of every setting."""
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, inner in model.model_fields.items():
            yield section, name, inner


def example_toml() -> str:
    """A settings file with every key, its default and what it means; optional keys are commented out."""
    lines = ["# Settings of a device. Keys that are commented out show their default.", ""]
    last = None
    for section, name, field in _fields():
        if section != last:
            model = Settings.model_fields[section].annotation
            assert model is not None
            lines += ["", f"# {model.__doc__}", f"[{section}]"]
            last = section
        lines.append(f"# {field.description}")
        if field.is_required():
            lines.append(f"{name} = {_toml(field.examples[0] if field.examples else '')}")
        elif field.default is None:
            lines.append(f"# {name} = {_toml(field.examples[0] if field.examples else '')}    # not set by default")
        else:
            lines.append(f"# {name} = {_toml(field.default)}")
    return "\n".join(lines) + "\n"


def reference_markdown() -> str:
    """The reference page of the settings."""
    lines = [
        "# Settings",
        "",
        "Generated from `edge/settings.py` by `python -m edge.settings reference`.",
        "Every setting can also stand in the environment, and then goes before the file: `site.device` is",
        f"`{ENVIRONMENT_PREFIX}SITE__DEVICE`. Relative paths start at the folder of the settings file; a file of its",
        "folder `credentials` is taken from systemd where that hands it over. Unknown keys are refused.",
    ]
    last = None
    for section, name, field in _fields():
        if section != last:
            model = Settings.model_fields[section].annotation
            assert model is not None
            lines += ["", f"## [{section}]", "", f"{model.__doc__}", "", "| key | default | meaning |", "|---|---|---|"]
            last = section
        default = "required" if field.default is PydanticUndefined else _default_in_words(field.default)
        lines.append(f"| `{section}.{name}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default_in_words(value: object) -> str:
    return "not set" if value is None else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'


if __name__ == "__main__":
    sys.stdout.write(reference_markdown() if sys.argv[1:] == ["reference"] else example_toml())
