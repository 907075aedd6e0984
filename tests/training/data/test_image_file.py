import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from model_store.errors import UnsupportedImage, UnusableImage
from model_store.images.decode import decode
from model_store.manifest import UNNORMALISED
from training.data.image_file import read_training_image, skip_reason

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty files"),
        (b"notes", "files that are not images of an accepted type"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "images that are damaged or over a limit"),
        (HEIC, "HEIC photos, which can be read after `pip install pillow-heif`"),
    ],
    ids=["empty", "text", "damaged", "heic"],
)
def test_each_kind_of_unusable_file_has_its_reason(tmp_path, monkeypatch, data, reason):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    (tmp_path / "file").write_bytes(data)
    with pytest.raises((UnsupportedImage, UnusableImage)) as error:
        read_training_image(tmp_path / "file")
    assert skip_reason(error.value) == reason


def test_heic_is_read_for_training_and_not_by_the_service(tmp_path):
    rgb = Image.effect_mandelbrot((128, 96), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    pillow_heif.from_pillow(rgb).save(tmp_path / "photo.heic", quality=100)
    _, pixels = read_training_image(tmp_path / "photo.heic")
    png = io.BytesIO()
    rgb.save(png, "PNG")
    expected = decode(png.getvalue(), UNNORMALISED)
    assert pixels.shape == (32, 32, 3) and np.abs(pixels.astype(int) - expected).mean() < 2
    with pytest.raises(UnsupportedImage, match="HEIC"):
        decode((tmp_path / "photo.heic").read_bytes(), UNNORMALISED)


@pytest.mark.parametrize("keep", [40, 300], ids=["header", "half"])
def test_damaged_heic_is_unusable(tmp_path, keep):
    pillow_heif.from_pillow(Image.effect_noise((64, 64), 50).convert("RGB")).save(tmp_path / "photo.heic")
    (tmp_path / "cut.heic").write_bytes((tmp_path / "photo.heic").read_bytes()[:keep])
    with pytest.raises(UnusableImage, match="the HEIC file ends early or is damaged"):
        read_training_image(tmp_path / "cut.heic")
