"""The service's settings: the only reader of the environment.

Made once at start-up and passed down. Every setting is `CIFAR10_` and the field's name in capitals, and stands in
docs/configuration.md.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator
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
    _processes: int = PrivateAttr(1)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        """Raises ValueError: uvicorn would take anything for a name, and then believe nobody."""
        for proxy in [] if value.strip() in ("", "*") else value.split(","):
            ip_network(proxy.strip())
        return value

    @property
    def max_waiting_images(self) -> int:
        """Decoded images that may wait for the network in this process: its share, or one whole batch request."""
        return max(-(-MAX_WAITING_IMAGES // self._processes), min(self.max_files, MAX_WAITING_IMAGES))

    def share_of(self, processes: int) -> "Settings":
        """Return the limits of one of so many processes, so that all of them together keep those of the service."""
        limits = {name: -(-getattr(self, name) // processes) for name in ("max_requests", "decode_threads")}
        share = self.model_copy(update=limits)
        share._processes = processes
        return share
