"""The service's settings, read from the environment once at start-up and passed down.

A setting's environment variable is `CIFAR10_` and the field's name in capitals, unless prometheus_client defines it.
docs/configuration.md lists them. A variable that is set but empty counts as unset: compose files pass such on.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_store.classifier import EngineName, PrecisionChoice
from model_store.store import SHIPPED_STORE

# Removed settings, and the reason.
REMOVED = {
    "CIFAR10_MAX_BATCH": "the service chooses the batch size itself",
    "CIFAR10_MAX_WAITING_IMAGES": "the service limits its queue itself",
}
# Decoded images waiting for the network, in all processes together. The limit bounds the wait of batch requests, which
# is 0.7 s if the network computes 3,000 images/s; it is less for larger networks. Of 32×32 pixels they take 6 MB.
MAX_WAITING_IMAGES = 2_048
# Memory of a process besides bodies and pixels: 165 to 180 MB with cifar10 7, and room for more of OpenVINO's kernels.
PROCESS_BYTES = 256_000_000
# A process under a limit of 256 MB has this much, so that the kernel does not kill it (benchmarks/sizing.py).
MIN_IMAGE_BYTES = 64_000_000
PROTOCOLS = "v1", "v2", "sagemaker"
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name
PUBLIC_PARTS = "metrics", "docs", "drift"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HOST = re.compile(r"(\*\.)?[a-z0-9_][a-z0-9_.-]*|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class Limits:
    """One process's share of the service's limits."""

    max_requests: int
    decode_threads: int
    max_waiting_images: int  # decoded, waiting for the network
    image_bytes: int  # of bodies and decoded pixels
    memory_bytes: int  # of everything, in all processes together


class Settings(BaseSettings):
    """All settings, immutable. An invalid value raises a ValidationError that names its field."""

    model_config = SettingsConfigDict(
        env_prefix="CIFAR10_", env_ignore_empty=True, frozen=True, protected_namespaces=()
    )

    bind_host: str = Field(
        "127.0.0.1", pattern=r"\S", description="address or name to listen on, if --host is not given"
    )
    bind_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        8000,
        # Not CIFAR10_PORT, which Kubernetes sets to tcp://… in the pods beside a Service of the name cifar10.
        validation_alias=AliasChoices("CIFAR10_BIND_PORT", "PORT"),
        description="port to listen on, if --port is not given; default: PORT, which platforms set, else 8000",
    )
    store: Path = Field(SHIPPED_STORE, description="folder of published models")
    model_name: str = Field("cifar10", description="model to serve")
    model_version: Count | None = Field(
        None, description="version to serve; default: the one in ACTIVE, else the highest"
    )
    follow: bool = Field(
        True,
        description="serve another version, without a restart, when the store chooses another; "
        "a set CIFAR10_MODEL_VERSION rules this out",
    )
    engine: EngineName = Field("openvino", description="inference engine: openvino or tensorflow")
    precision: PrecisionChoice = Field(
        "auto", description="auto, float32, bfloat16 or int8; auto takes the fastest that version and processor support"
    )
    workers: Count | None = Field(None, description="number of processes; default: one per core")
    max_body_bytes: Count = Field(32_000_000, description="maximum bytes of a request body")
    max_files: Count = Field(256, description="maximum images in a batch request")
    max_requests: Count = Field(256, description="maximum predictions in flight; more are answered 503")
    max_wait_seconds: Seconds = Field(
        0.5, description="new predictions are answered 503 while they take longer than this"
    )
    max_memory_mb: Count | None = Field(
        None,
        description="megabytes of memory for all processes; default: the container's limit, or half of the machine's",
    )
    decode_threads: Annotated[int, Field(ge=1, le=64)] = Field(2, description="images decoded in parallel")
    timeout_seconds: Seconds = Field(30.0, description="time for a request to arrive and be answered")
    keep_alive_seconds: Seconds = Field(
        75.0, description="how long a connection stays open without a request; longer than a proxy keeps its own"
    )
    max_connections: Count | None = Field(
        None, description="open connections of each process; default: what the limit of open files allows"
    )
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="after SIGTERM, how long requests are still accepted while /health/ready answers 503"
    )
    protocols: str = Field(
        "v1,v2,sagemaker",
        description="comma-separated interfaces of other model servers to offer: v1, v2, sagemaker; or none",
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path prefix that a reverse proxy strips, such as /cifar10"
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="comma-separated addresses and networks whose X-Forwarded-* headers are trusted; or *",
    )
    access: Literal["open", "keys"] | None = Field(
        None,
        description="who may use the service: open (everybody) or keys (clients with a key); "
        "default: open, on a loopback address only",
    )
    keys_file: Path | None = Field(None, description="file of keys, for CIFAR10_ACCESS=keys")
    public: str = Field(
        "",
        description="comma-separated parts that need no key: metrics, docs, drift; health and the page never need one",
    )
    allowed_origins: str = Field(
        "", description="comma-separated origins whose pages may call the service, such as https://example.org; or *"
    )
    frame_ancestors: str = Field("", description="comma-separated origins that may show the page in a frame; or *")
    allowed_hosts: str = Field(
        "", description="comma-separated names that the Host header may have, such as example.org or *.example.org"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    traces: Literal["off", "otlp"] = Field(
        "off", description="otlp sends a trace of each request to where the variables OTEL_… of OpenTelemetry say"
    )
    metrics_directory: Path | None = Field(
        None,
        validation_alias=METRICS_DIRECTORY,
        description="directory for the processes' metrics, emptied at start-up; default: a temporary directory",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        """Reject anything but addresses: uvicorn would accept it as a name and then trust no proxy."""
        for proxy in [] if value.strip() in ("", "*") else value.split(","):
            ip_network(proxy.strip())
        return value

    @field_validator("public")
    @classmethod
    def _are_parts(cls, value: str) -> str:
        if unknown := set(split_list(value)) - set(PUBLIC_PARTS):
            raise ValueError(f"{sorted(unknown)[0]!r} is not one of {', '.join(PUBLIC_PARTS)}")
        return value

    @field_validator("allowed_origins", "frame_ancestors")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in split_list(value):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; write scheme://host or scheme://host:port, or only *")
        if "*" in split_list(value) and len(split_list(value)) > 1:
            raise ValueError("* stands for every origin, so it must be alone")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in split_list(value):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name; write example.org or *.example.org, without a port")
        return value

    @property
    def public_parts(self) -> frozenset[str]:
        """The parts that need no key."""
        return frozenset(split_list(self.public))

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose pages may call the service, as browsers write them; {"*"} for all."""
        return frozenset(_serialized(origin) for origin in split_list(self.allowed_origins))

    @property
    def hosts(self) -> frozenset[str]:
        """The names that the Host header may have; empty for any."""
        return frozenset(split_list(self.allowed_hosts))

    @property
    def follows(self) -> bool:
        """True if the service changes its version with the store."""
        return self.follow and self.model_version is None

    @field_validator("protocols")
    @classmethod
    def _are_protocols(cls, value: str) -> str:
        """Reject unknown names, and `none` beside others."""
        names = protocol_names(value)
        if names != {"none"} and not names <= set(PROTOCOLS):
            raise ValueError(f"name some of {', '.join(PROTOCOLS)}, separated by commas, or only none")
        return value

    @property
    def enabled_protocols(self) -> set[str]:
        """The protocols to offer."""
        return protocol_names(self.protocols) - {"none"}

    def limits(self, processes: int, memory: int) -> Limits:
        """Divide the service's limits among its processes; `memory` is the default of `max_memory_mb`, in bytes."""
        memory = self.max_memory_mb * 1_000_000 if self.max_memory_mb else memory
        return Limits(
            max_requests=_share(self.max_requests, processes),
            decode_threads=_share(self.decode_threads, processes),
            # Every process's queue has room for a whole batch request.
            max_waiting_images=max(_share(MAX_WAITING_IMAGES, processes), min(self.max_files, MAX_WAITING_IMAGES)),
            image_bytes=max(MIN_IMAGE_BYTES, memory // processes - PROCESS_BYTES),
            memory_bytes=memory,
        )


def protocol_names(value: str) -> set[str]:
    """Split the names of `CIFAR10_PROTOCOLS`."""
    return {name.strip().lower() for name in value.split(",")}


def split_list(value: str) -> list[str]:
    """Split a comma-separated setting into its items, in lower case."""
    return [item for part in value.split(",") if (item := part.strip().lower())]


def _serialized(origin: str) -> str:
    """Write an origin as browsers do, without its scheme's default port."""
    return origin.removesuffix(DEFAULT_PORTS.get(origin.partition("://")[0], "\0"))


def _share(limit: int, processes: int) -> int:
    return -(-limit // processes)  # rounded up


def variables() -> dict[str, str]:
    """Map each field of `Settings` to its environment variable."""
    return {name: _aliases(name)[0] for name in Settings.model_fields}


def set_variable(field: str) -> str:
    """Return the variable that a field's value came from; `field` is its name or its first variable."""
    aliases = next((_aliases(name) for name in Settings.model_fields if field in (name, _aliases(name)[0])), [field])
    return next((variable for variable in aliases if os.environ.get(variable)), aliases[0])


def _aliases(name: str) -> list[str]:
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [str(alias or f"CIFAR10_{name.upper()}")]


def environment_warnings() -> Iterator[str]:
    """Warn about environment variables that are removed or misspelt settings.

    Others with the prefix get no warning: Kubernetes sets some for a service of that name.
    """
    for variable in sorted(REMOVED.keys() & os.environ.keys()):
        yield f"{variable} is no longer a setting, because {REMOVED[variable]}; unset it"
    known = set(variables().values())
    for variable in sorted(os.environ.keys() - known - REMOVED.keys()):
        if variable.startswith("CIFAR10_") and (matches := get_close_matches(variable, known, 1, cutoff=0.85)):
            yield f"{variable} is not a setting; did you mean {matches[0]}?"
