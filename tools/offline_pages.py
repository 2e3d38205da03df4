"""Sphinx extension: what the pages need so that they work from a folder, with no network at all."""

import re
import shutil
from pathlib import Path

_FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')
_LABEL = re.compile(r'(<button class="[^"]*search-button-field[^>]*|<summary) aria-label="[^"]*"')
# Tables can be scrolled with the keys; a list whose members are no list items is none.
_FOR_ALL_READERS = {
    '<table class="table">': '<table class="table" tabindex="0">',
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}


def copy_movies(app, exception) -> None:
    """Movies stand beside the chapters that show them."""
    movies = Path(app.srcdir) / "chapters" / "movies"
    if exception is None and app.builder.format == "html" and movies.is_dir():
        shutil.copytree(movies, Path(app.outdir) / "chapters" / "movies", dirs_exist_ok=True)


def drop_thebe(app, page, template, context, doctree) -> None:
    """The theme loads thebe, which this book does not use: its inline script is added twice and throws."""
    for kind in ("script_files", "css_files"):
        context[kind] = [item for item in context.get(kind, []) if "thebe" not in _text(item)]


def mend_pages(app, exception) -> None:
    """From a folder a preload of a font is refused and reported as an error; the style sheet loads the same fonts.
    The search button and the dropdowns of code are called what is written on them: who speaks to a page says that."""
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            text = _LABEL.sub(r"\1", _FONT_PRELOAD.sub("", text))
            for written, mended in _FOR_ALL_READERS.items():
                text = text.replace(written, mended)
            page.write_text(text, encoding="utf-8")


def _text(item) -> str:
    return f"{getattr(item, 'filename', item)}{getattr(item, 'attributes', '')}".lower()


def setup(app) -> dict:
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", copy_movies)
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
