"""Pictures: axes in, axes out. Computes nothing."""

import base64
import html
import io
import json
import string
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

# One colour, one meaning, in every chapter (Okabe-Ito, told apart by every eye).
COLOURS = {
    "bulk": "#b8bfc9",  # histogram of a measured bulk
    "law": "#1b2a41",  # the law predicted for it
    "outlier": "#d55e00",  # predicted outliers
    "network": "#0072b2",  # what a simulation or a real network measured
    "naive": "#cc79a7",  # the simpler theory: spikes independent of the bulk
    "accent": "#009e73",  # anything else
}


def use_style() -> None:
    """The book's matplotlib style."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.8),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "mathtext.fontset": "cm",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(
                color=[COLOURS[k] for k in ("network", "outlier", "accent", "law", "naive")]
            ),
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def spectrum(ax, values, bins=60, label="measured"):
    """Histogram of measured eigenvalues or singular values, normalised to mass one."""
    ax.hist(np.ravel(values), bins=bins, density=True, color=COLOURS["bulk"], label=label)
    return ax


def law(ax, x, density, label="theory", **kwargs):
    """A predicted density on top of a spectrum."""
    ax.plot(x, density, **{"color": COLOURS["law"], "label": label, **kwargs})
    return ax


def sticks(ax, locations, height, kind="outlier", label=None):
    """Isolated values as vertical sticks with a head; `kind` is a key of COLOURS."""
    locations = np.ravel(locations)
    ax.vlines(locations, 0, height, color=COLOURS[kind], linewidth=1.5)
    ax.plot(locations, np.full(locations.size, height), "o", color=COLOURS[kind], markersize=5, label=label)
    return ax


def strip(ax, rows: dict, right: float):
    """Rows of marks under a spectrum that ends at `right`: {label: (kind, singular values)}, from the top down."""
    for height, (kind, places) in enumerate(rows.values()):
        ax.vlines(places, -height - 0.35, -height + 0.35, COLOURS[kind])
    ax.set(xlim=(0, right), ylim=(0.4 - len(rows), 0.6), xlabel="singular value")
    ax.set_yticks([-height for height in range(len(rows))], list(rows))
    return ax


class Movie:
    """A precomputed player: `draw(frame)` redraws `figure`; the page shows the file in a frame.

    Writes `movies/NAME.html` beside the running notebook: a picture, a play button and a slider, with every
    frame inside, so that nothing is fetched. `labels` names the frames; `alt` says in words what moves;
    `interval` is in milliseconds. Shown as the last expression of a cell. OSError when the folder is read-only.
    """

    def __init__(self, name: str, figure, draw, frames, *, labels, alt: str, interval: int = 150):
        frames, pictures = list(frames), []
        if figure.get_layout_engine() is None:  # the style would put one in after the first picture
            figure.set_layout_engine("constrained")
        draw(frames[0])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, so that nothing jumps
        for frame in frames:
            draw(frame)
            pictures.append(_picture(figure))
        plt.close(figure)
        self.name, self.alt = name, alt
        page = string.Template((Path(__file__).parent / "player.html").read_text(encoding="utf-8"))
        content = {"frames": json.dumps(pictures), "labels": json.dumps(list(labels)), "interval": interval}
        _write(name, page.substitute(content, alt=html.escape(alt), last=len(pictures) - 1))
        width, height = figure.get_size_inches() * figure.dpi
        self.shape = round(width), round(height)

    def _repr_html_(self) -> str:
        width, height = self.shape
        # The picture keeps its shape at any width of the page; below it the controls have a fixed height.
        return (
            f'<div class="movie" style="max-width:{width}px;aspect-ratio:{width}/{height};margin:0 auto 56px">'
            f'<iframe src="movies/{self.name}.html" title="{html.escape(self.alt)}" '
            f'style="width:100%;height:calc(100% + 52px);border:0;background:#fff"></iframe></div>'
        )

    def __repr__(self) -> str:
        return f"Movie: {self.alt}"


def _write(name: str, page: str) -> None:
    folder = Path("movies")
    try:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    except OSError as problem:
        where = f"{folder.absolute()} ({problem.strerror})"
        raise OSError(f"the movie {name!r} cannot be written into {where}: run in a folder of your own") from problem


def _picture(figure) -> str:
    """The figure as a small PNG (64 colours), as a data URI."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=figure.dpi)
    Image.open(raw).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()
