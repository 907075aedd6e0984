"""Fonts for class names, with a font made here that has one Chinese character."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from tests.training import linear
from training.evaluate.accuracy import evaluate
from training.publish.fonts import find_fonts
from training.publish.plots import draw

LABELS = ("猫", "犬", *map(str, range(8)))


def make_font(path: Path, characters: str) -> None:
    """A font with a black square for each character."""
    pen = TTGlyphPen(None)
    for move, point in zip((pen.moveTo, *[pen.lineTo] * 3), ((0, 0), (0, 700), (700, 700), (700, 0)), strict=True):
        move(point)
    pen.closePath()
    names = [f"square{number}" for number in range(len(characters))]
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    builder.setupGlyf({".notdef": empty, **dict.fromkeys(names, square)})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names), (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A folder that holds all installed fonts."""
    (tmp_path / "fonts").mkdir()
    monkeypatch.setattr(font_manager, "X11FontDirectories", [str(tmp_path / "fonts")])
    monkeypatch.setattr(font_manager, "_get_fontconfig_fonts", list)
    return tmp_path / "fonts"


def test_latin_greek_and_cyrillic_need_no_further_font(installed):
    assert find_fonts("café Ωμέγα собака") == (["DejaVu Sans"], set())


def test_fonts_that_cover_the_other_characters_are_found(installed):
    make_font(installed / "CatSans.ttf", "猫")
    make_font(installed / "DogSans.ttf", "犬")
    make_font(installed / "Unrelated.ttf", "鳥")
    (installed / "Broken.ttf").write_bytes(b"no font")
    assert find_fonts("猫 and 犬, not 魚") == (["DejaVu Sans", "CatSans", "DogSans"], {"魚"})


def test_names_are_drawn_with_the_font_and_numbered_without(installed, tmp_path, capsys):
    evaluation = evaluate(linear.classifier(LABELS), linear.images(40))
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    draw(tmp_path / "without", evaluation, [])
    assert capsys.readouterr().err == (
        "no installed font has the characters of 2 of 10 class names, so the plots number them: class 1 is 猫, "
        "class 2 is 犬; install a font for them, such as one of Noto Sans\n"
    )
    make_font(installed / "PetSans.ttf", "猫犬")
    draw(tmp_path / "with", evaluation, [])  # a missing glyph would be a warning, and so an error
    assert capsys.readouterr().err == ""
    for name in ("confusion.png", "classes.png", "mistakes.png"):
        assert (tmp_path / "with" / name).read_bytes() != (tmp_path / "without" / name).read_bytes()
