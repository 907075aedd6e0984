"""Small image files, different for every seed."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_pictures(folder: Path, count: int, seed: int) -> list[Path]:
    return [write_picture(folder / f"{number}.png", 1000 * seed + number) for number in range(count)]
