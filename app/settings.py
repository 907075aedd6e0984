"""The service's settings, read from the environment once at start-up and passed down.

A setting's variable is `CIFAR10_` and the field's name in capitals, except for those that another program defines.
docs/configuration.md lists them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_store.classifier import EngineName, PrecisionChoice

# Settings of earlier versions, and why they are gone.
REMOVED = {
    "CIFAR10_MAX_BATCH": "the service chooses the batch size itself",
    "CIFAR10_MAX_WAITING_IMAGES": "the service limits its queue itself",
}
# Decoded images waiting for the network, in all processes together. 6 MB at most: what this bounds is the waiting time
# of batch requests, 0.7 s where the network computes 3,000 images/s.
MAX_WAITING_IMAGES = 2_048
SHIPPED_STORE = Path(__file__).resolve().parent.parent / "model_store" / "models"
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name


@dataclass(frozen=True)
class Limits:
    """One process's share of the service's limits."""

    max_requests: int
    decode_threads: int
    max_waiting_images: int  # decoded, waiting for the network


class Settings(BaseSettings):
    """Immutable; a value that does not fit is refused at start-up by name."""

    model_config = SettingsConfigDict(env_prefix="CIFAR10_", frozen=True, protected_namespaces=())

    store: Path = Field(SHIPPED_STORE, description="folder that holds the published models")
    model_name: str = Field("cifar10", description="model to serve")
    model_version: Count | None = Field(None, description="version to serve; without it ACTIVE's, else the highest")
    engine: EngineName = Field("openvino", description="what computes: openvino or tensorflow")
    precision: PrecisionChoice = Field(
        "auto", description="auto, float32, bfloat16 or int8; auto takes the fastest that version and processor allow"
    )
    workers: Count | None = Field(None, description="processes that serve; without it one for each core")
    max_body_bytes: Count = Field(32_000_000, description="bytes of one request's body")
    max_files: Count = Field(256, description="images in one batch request")
    max_requests: Count = Field(256, description="predictions handled at once; more are answered 503")
    max_wait_seconds: Seconds = Field(0.5, description="while predictions take longer, new ones are answered 503")
    decode_threads: Annotated[int, Field(ge=1, le=64)] = Field(2, description="images decoded at the same time")
    timeout_seconds: Seconds = Field(30.0, description="time for an upload to arrive and be answered")
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="after SIGTERM, how long /health/ready says 503 while requests are still accepted"
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path prefix that a reverse proxy strips, such as /cifar10"
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="addresses and networks, with commas, whose X-Forwarded-* headers are believed; or *",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line written")
    metrics_directory: Path | None = Field(
        None,
        validation_alias=METRICS_DIRECTORY,
        description="directory of the processes' metrics, emptied at the start; without it a temporary one",
    )

    @field_validator("metrics_directory", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        """Raises ValueError: uvicorn would take anything for a name, and then believe nobody."""
        for proxy in [] if value.strip() in ("", "*") else value.split(","):
            ip_network(proxy.strip())
        return value

    def limits(self, processes: int) -> Limits:
        """Each process's share, so that all of them together keep the limits of the service."""
        return Limits(
            max_requests=_share(self.max_requests, processes),
            decode_threads=_share(self.decode_threads, processes),
            # One whole batch request fits into the queue of every process.
            max_waiting_images=max(_share(MAX_WAITING_IMAGES, processes), min(self.max_files, MAX_WAITING_IMAGES)),
        )


def _share(limit: int, processes: int) -> int:
    return -(-limit // processes)  # rounded up


def variables() -> dict[str, str]:
    """The environment variable of each field of `Settings`."""
    return {
        name: str(field.validation_alias or f"CIFAR10_{name.upper()}") for name, field in Settings.model_fields.items()
    }


def environment_warnings() -> Iterator[str]:
    """Name variables that are no longer settings, or are misspelt.

    Others with the prefix are left alone: Kubernetes sets some to describe a service of that name.
    """
    for variable in sorted(REMOVED.keys() & os.environ.keys()):
        yield f"{variable} is set but no longer a setting: {REMOVED[variable]}; remove it"
    known = set(variables().values())
    for variable in sorted(os.environ.keys() - known - REMOVED.keys()):
        if variable.startswith("CIFAR10_") and (matches := get_close_matches(variable, known, 1, cutoff=0.85)):
            yield f"{variable} is no setting; did you mean {matches[0]}?"
