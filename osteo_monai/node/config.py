"""Settings of the node: one YAML file, checked as a whole before anything starts."""

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from osteo_monai.errors import ConfigError
from osteo_monai.utils.inputs import read_input

__all__ = [
    "CStoreDestination",
    "ClientTLS",
    "Destination",
    "Follow",
    "NodeConfig",
    "Receiver",
    "Retry",
    "Screening",
    "ServerTLS",
    "Status",
    "StowDestination",
    "Studies",
    "WebServer",
    "credentials",
    "is_loopback",
    "read_config",
    "secret_variables",
]

_SHOWN = 60


def _ae_title(text: str) -> str:
    if not (0 < len(text.strip()) <= 16 and text.isascii() and text.isprintable() and "\\" not in text):
        raise ValueError("must be an AE title of 1 to 16 ASCII characters")
    return text.strip()


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an IP address or a network such as 10.1.0.0/16") from None
    return text


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")) or "@" in text or "?" in text:
        raise ValueError("must be a URL that begins with https:// or http://, without user name and query")
    return text.rstrip("/")


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError("must be the name of an environment variable")
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
URL = Annotated[str, AfterValidator(_url)]
Variable = Annotated[str, AfterValidator(_variable)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


def is_loopback(address: str) -> bool:
    """Return whether only this machine can connect to an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class ServerTLS(_Settings):
    """TLS 1.2 or newer of the receiver: PEM files; clients must have a certificate of ``authorities``."""

    certificate: Path
    key: Path
    authorities: Path


class ClientTLS(_Settings):
    """TLS 1.2 or newer to a destination: PEM files; without ``certificate`` this node has none of its own."""

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None


class Receiver(_Settings):
    """DICOM storage receiver.

    Attributes:
        peers: addresses and networks that may connect.
        calling_ae_titles: AE titles that may send.
        max_associations: served at the same time; more are rejected.
        max_connections: open at the same time, associations included; more are closed at once.
        max_pdu_kib: longest PDU; a longer one ends the connection before it is read.
        max_object_mib: largest object.
        max_buffered_mib: memory for objects that are being received, of all associations together.
        max_study_images, max_study_mib: of one study.
        idle_seconds: without data, or for one PDU, or for the TLS handshake.
        object_seconds: to receive one object.
        min_free_mib: below this free space objects are refused with status A700.
        other_objects: of the study, which cannot be screened, such as results that a PACS sends with the images:
            ``reject`` does not accept their kind; ``discard`` accepts them, keeps nothing, and answers with the warning
            B006, for a PACS that sends no images after an object that is not accepted.
    """

    ae_title: AETitle = "OSTEO"
    address: str = "127.0.0.1"
    port: Port = 11112
    calling_ae_titles: tuple[AETitle, ...] = ()
    peers: tuple[Network, ...] = ()
    tls: ServerTLS | None = None
    max_associations: Annotated[int, Field(ge=1, le=100)] = 8
    max_connections: Annotated[int, Field(ge=1, le=500)] = 32
    max_pdu_kib: Annotated[int, Field(ge=4, le=16384)] = 128
    max_object_mib: Annotated[int, Field(ge=1, le=4096)] = 1024
    max_buffered_mib: Annotated[int, Field(ge=1, le=65536)] = 2048
    max_study_images: Count = 20_000
    max_study_mib: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    idle_seconds: Seconds = 30
    object_seconds: Seconds = 600
    min_free_mib: Annotated[int, Field(ge=0)] = 2048
    other_objects: Literal["reject", "discard"] = "reject"

    @model_validator(mode="after")
    def _admission(self) -> Self:
        if not is_loopback(self.address) and not (self.calling_ae_titles and self.peers):
            raise ValueError(
                f"calling_ae_titles and peers must not be empty for an address that other machines can reach, "
                f"got address {self.address}"
            )
        if self.max_buffered_mib < self.max_object_mib:
            raise ValueError(
                f"max_buffered_mib must be at least max_object_mib ({self.max_object_mib}), got {self.max_buffered_mib}"
            )
        return self


class Studies(_Settings):
    """When a study is complete, and how long its images are kept.

    Attributes:
        complete_after_seconds: after the last new image.
        force_after_seconds: after the first new image, also while more arrive.
        keep_images_hours: after the last new image; late slices make a new result as long as the images are kept.
        keep_results_days: results after the last new image, and objects in quarantine.
        forget_days: after the last new image all is forgotten; a study that is sent again later is screened again.
    """

    complete_after_seconds: Seconds = 60
    force_after_seconds: Seconds = 1800
    keep_images_hours: Annotated[float, Field(gt=0)] = 24
    keep_results_days: Annotated[float, Field(gt=0)] = 30
    forget_days: Annotated[float, Field(gt=0)] = 90


class Retry(_Settings):
    """Attempts of one task, and the waiting time between them, which doubles from the first to the longest."""

    attempts: Count = 200
    first_seconds: Seconds = 15
    longest_seconds: Seconds = 1800

    def wait(self, attempts: int) -> float:
        """Return the seconds to wait after a number of failed attempts."""
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempts - 1, 30)))


class Screening(_Settings):
    """Process that screens the studies.

    Attributes:
        options: of the screening: ``calibration``, ``levels``, ``thresholds``, ``kvp`` as ``osteo-monai screen`` has
            them, each as text.
        processes: studies screened at the same time; each process loads the models once.
        memory_mib: of one process and those that it starts; one that needs more is ended.
        seconds: of one study; a process that needs longer is ended.
        start_seconds: to load the models.
    """

    device: str = "cpu"
    options: dict[Literal["calibration", "levels", "thresholds", "kvp"], str] = {}
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mib: Annotated[int, Field(ge=64)] = 8192
    seconds: Seconds = 900
    start_seconds: Seconds = 300
    retry: Retry = Retry(attempts=3, first_seconds=30, longest_seconds=600)


class WebServer(_Settings):
    """DICOMweb service; user and password, or a token, are read from environment variables."""

    url: URL
    user_variable: Variable | None = None
    password_variable: Variable | None = None
    token_variable: Variable | None = None
    authorities: Path | None = None
    seconds: Seconds = 120

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if (self.user_variable is None) != (self.password_variable is None):
            raise ValueError("user_variable and password_variable must be given together")
        if self.user_variable and self.token_variable:
            raise ValueError("token_variable must be left out if user_variable is given")
        return self


class CStoreDestination(_Settings):
    """PACS that receives the results by C-STORE.

    Attributes:
        commitment: request storage commitment; a result is delivered when the PACS has confirmed it.
        commitment_seconds: to wait for the confirmation before the result is sent again.
    """

    kind: Literal["c-store"]
    name: str
    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle | None = None
    tls: ClientTLS | None = None
    commitment: bool = False
    commitment_seconds: Seconds = 300
    seconds: Seconds = 60


class StowDestination(WebServer):
    """DICOMweb service that receives the results by STOW-RS; the answer must name every object as stored."""

    kind: Literal["stow"]
    name: str


Destination = CStoreDestination | StowDestination


class Follow(WebServer):
    """DICOMweb service that is searched for new studies, which are then retrieved.

    Attributes:
        query: QIDO-RS attributes, such as ``ModalitiesInStudy: CT``.
        days: study dates that are searched: today and this number of days before.
        every_seconds: between two searches.
        most: studies of one search.
    """

    query: dict[str, str] = {"ModalitiesInStudy": "CT"}
    days: Annotated[int, Field(ge=0, le=3650)] = 1
    every_seconds: Seconds = 60
    most: Annotated[int, Field(ge=1, le=10_000)] = 500


class Status(_Settings):
    """Status page, health and metrics by HTTP, without access control: on loopback unless a proxy protects it."""

    address: str = "127.0.0.1"
    port: Port = 8104
    hosts: tuple[str, ...] = ()


class NodeConfig(_Settings):
    """All settings of one node.

    Attributes:
        folder: of queue, images and results; used by one node only.
        destinations: all receive every result.
        follow: also retrieve studies from a DICOMweb service.
    """

    folder: Path
    receiver: Receiver | None = Receiver()
    studies: Studies = Studies()
    screening: Screening = Screening()
    destinations: tuple[Annotated[Destination, Field(discriminator="kind")], ...] = ()
    retry: Retry = Retry()
    follow: Follow | None = None
    status: Status | None = Status()

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if self.receiver is None and self.follow is None:
            raise ValueError("receiver or follow must be given: no study can arrive")
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError(f"destinations must have different names, got {', '.join(names)}")
        commitment = any(d.kind == "c-store" and d.commitment for d in self.destinations)
        if commitment and self.receiver is None:
            raise ValueError("commitment must be false without a receiver: the answer of the PACS cannot arrive")
        return self


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no annotations
    """Loader that refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)) or key in seen:
                raise ConfigError(
                    f"line {key_node.start_mark.line + 1}: each key must be given once, got '{key}' twice"
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_config(path: Path) -> NodeConfig:
    """Read the settings of a node.

    Relative paths in the file are relative to its folder.

    Raises:
        ConfigError: with one sentence for each mistake.
    """
    try:
        values = yaml.load(read_input(path), _Loader)  # a safe loader
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "the file is no UTF-8 text"
        raise ConfigError(f"CONFIG must be a readable file, got '{path}': {reason}") from None
    except ConfigError as error:
        raise ConfigError(f"'{path}', {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"CONFIG must be a YAML file, got '{path}'{where} that cannot be parsed") from None
    if not isinstance(values, dict):
        raise ConfigError(f"CONFIG must hold settings as 'name: value', got '{path}' without any")
    try:
        config = NodeConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentences(path, error)) from None
    return _absolute(config, path.resolve().parent)


def _sentences(path: Path, error: ValidationError) -> str:
    problems = [_sentence(problem) for problem in error.errors(include_url=False)]
    if len(problems) == 1:
        return f"'{path}': {problems[0]}"
    return f"'{path}' has {len(problems)} mistakes:" + "".join(f"\n  - {problem}" for problem in problems)


def _place(location: tuple[int | str, ...]) -> str:
    parts = [part for part in location if part not in ("c-store", "stow")]
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(problem: Any) -> str:
    place = _place(problem["loc"])
    kind, message = problem["type"], problem["msg"]
    if kind == "missing":
        return f"{place} is missing"
    if kind == "extra_forbidden":
        return f"{place} is not a known setting"
    got = f", got {str(problem['input'])[:_SHOWN]!r}" if not isinstance(problem["input"], (dict, BaseModel)) else ""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    if message.startswith("must "):
        return f"{place} {message}{got}"
    if kind == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}: {message[:1].lower()}{message[1:]}{got}"


def _absolute(config: NodeConfig, base: Path) -> NodeConfig:
    """Return settings whose paths do not depend on the current folder."""

    def convert(value: Any) -> Any:
        if isinstance(value, Path):
            return base / value
        if isinstance(value, BaseModel):
            changes = {name: convert(getattr(value, name)) for name in type(value).model_fields}
            return value.model_copy(update=changes)
        if isinstance(value, tuple):
            return tuple(convert(item) for item in value)
        return value

    converted: NodeConfig = convert(config)
    return converted


def secret_variables(config: NodeConfig) -> set[str]:
    """Return the environment variables that hold credentials."""
    servers = [server for server in (*config.destinations, config.follow) if isinstance(server, WebServer)]
    names = {name for s in servers for name in (s.user_variable, s.password_variable, s.token_variable)}
    return {name for name in names if name is not None}


def credentials(server: WebServer, environment: Callable[[str], str | None] = os.environ.get) -> dict[str, str]:
    """Return ``user`` and ``password``, or ``token``, from the environment.

    Raises:
        ConfigError: a variable that the settings name is not set.
    """
    wanted = {"user": server.user_variable, "password": server.password_variable, "token": server.token_variable}
    values = {}
    for name, variable in wanted.items():
        if variable is None:
            continue
        value = environment(variable)
        if not value:
            raise ConfigError(f"the environment variable {variable} must be set")
        values[name] = value
    return values
