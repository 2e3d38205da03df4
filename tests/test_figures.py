"""Figures are stored with twice the pixels, and with a palette."""

import base64
import io
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))
import book  # noqa: E402
import figures  # noqa: E402

DRAW = "import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 2), dpi=100)\nplt.plot([0, 1])\nplt.show()"


def png(picture: Image.Image) -> bytes:
    stored = io.BytesIO()
    picture.save(stored, format="png")
    return stored.getvalue()


@pytest.fixture
def shades() -> Image.Image:
    """Three inks and all that lies between them and white, as at the edges of lines."""
    inks = np.array([[0, 114, 178], [213, 94, 0], [27, 42, 65]])
    cover = np.linspace(0, 1, 400)[:, None, None]
    stripes = np.repeat(255 + cover * (inks - 255), 40, axis=1).round().astype(np.uint8)
    return Image.fromarray(stripes).convert("RGBA")


def test_a_palette_is_smaller_and_looks_the_same(shades):
    stored = figures.palette(png(shades))
    small = Image.open(io.BytesIO(stored))
    assert small.mode == "P" and small.size == shades.size and len(stored) < len(png(shades))
    change = np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(shades.convert("RGB"), int))
    assert change.max() <= 8 and change.mean() < 2


def test_what_shows_through_becomes_white():
    clear = Image.open(io.BytesIO(figures.palette(png(Image.new("RGBA", (300, 300), (0, 0, 0, 0))))))
    assert clear.convert("RGBA").getpixel((5, 5)) in {(255, 255, 255, 255), (0, 0, 0, 0)}


def test_a_picture_with_a_palette_stays_as_it_is(shades):
    once = figures.palette(png(shades))
    assert figures.palette(once) == once


def test_an_executed_figure_has_twice_the_pixels_of_its_place_on_the_page(tmp_path, monkeypatch):
    shutil.copytree(TOOLS / "ipython", tmp_path / "ipython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    chapter = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAW)]), chapter)
    book.execute_chapter(chapter)
    (output,) = nbformat.read(chapter, as_version=4).cells[0].outputs
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.mode == "P"
    assert picture.width == pytest.approx(2 * output.metadata["image/png"]["width"], abs=1)
    assert picture.width > 500
