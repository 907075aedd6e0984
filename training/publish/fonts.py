"""Installed fonts for class names in any script."""

import logging
from collections.abc import Iterator
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "LastResort"  # macOS's font of boxes has every character

# It logs a warning if a further font lacks a weight, and then takes another.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def find_fonts(text: str) -> tuple[list[str], set[str]]:
    """Return the font families to draw a text with, in order of preference, and the characters that none has.

    Opens installed fonts only for characters that the default font lacks. They are looked up anew, because
    matplotlib's own list is a cache that misses fonts installed later.
    """
    families = [DEFAULT]
    missing = set(text) - _characters(FT2Font(font_manager.findfont(DEFAULT)))
    for path, font in _installed() if missing else ():
        if covered := missing & _characters(font):
            font_manager.fontManager.addfont(path)
            families.append(font.family_name)
            missing -= covered
        if not missing:
            break
    return families, missing


def _installed() -> Iterator[tuple[str, FT2Font]]:
    """Yield the fonts that can be drawn, sans-serif and regular ones first."""
    for path in sorted(font_manager.findSystemFonts(), key=_preference):
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # damaged, or of a kind that FreeType does not know
            continue
        if font.scalable and LAST_RESORT not in font.family_name:
            yield path, font


def _preference(path: str) -> tuple[bool, bool, str]:
    name = Path(path).stem
    return "Sans" not in name, "Regular" not in name, path


def _characters(font: FT2Font) -> set[str]:
    return set(map(chr, font.get_charmap()))
