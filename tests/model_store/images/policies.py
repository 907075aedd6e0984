"""Preprocessing of which only decoding matters."""

from typing import Any

from model_store.manifest import UNNORMALISED, Preprocessing, Resize

SIDE = 32


def resized(**policy: Any) -> Preprocessing:
    """32×32 RGB, resized as `Resize(**policy)` says."""
    return UNNORMALISED.model_copy(update={"resize": Resize(**policy)})


def sized(height: int, width: int, channels: int = 3, **changes: Any) -> Preprocessing:
    """Pixels of another size, RGB unless `channel_order` says otherwise."""
    return Preprocessing(mean=(0,) * channels, std=(1,) * channels, height=height, width=width, **changes)
