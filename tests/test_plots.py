"""Movies are self-contained files with as many frames as asked for."""

import json
import re

import matplotlib
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt
from spectral_dynamics import plots


@pytest.fixture
def movie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure, axes = plt.subplots(figsize=(3, 2), dpi=50)

    def draw(step):
        axes.clear()
        axes.plot([0, step])

    labels = [f"step {step}" for step in range(4)]
    return plots.Movie("rise", figure, draw, range(4), labels=labels, alt="A line that rises < step by step.")


def test_a_movie_holds_every_frame_and_fetches_nothing(movie, tmp_path):
    page = (tmp_path / "movies" / "rise.html").read_text(encoding="utf-8")
    frames = json.loads(re.search(r"frames = (\[.*?\])", page)[1])
    assert len(set(frames)) == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "A line that rises &lt; step by step." in page


def test_the_frame_on_the_page_is_described(movie):
    assert 'src="movies/rise.html"' in movie._repr_html_()
    assert 'title="A line that rises &lt; step by step."' in movie._repr_html_()


def test_the_same_movie_is_the_same_file(movie, tmp_path):
    first = (tmp_path / "movies" / "rise.html").read_bytes()
    figure, axes = plt.subplots(figsize=(3, 2), dpi=50)
    labels = [f"step {step}" for step in range(4)]

    def draw(step):
        axes.clear()
        axes.plot([0, step])

    plots.Movie("rise", figure, draw, range(4), labels=labels, alt=movie.alt)
    assert (tmp_path / "movies" / "rise.html").read_bytes() == first


def test_a_movie_in_a_closed_folder_names_the_folder(tmp_path, monkeypatch):
    (tmp_path / "movies").touch()  # closed to everybody, the superuser too
    monkeypatch.chdir(tmp_path)
    where = re.escape(str(tmp_path / "movies"))
    with pytest.raises(OSError, match=f"the movie 'still' cannot be written into {where}"):
        plots.Movie("still", plt.figure(), lambda frame: None, [0], labels=[0], alt="Nothing.")


@pytest.mark.parametrize("layout", [None, "none", "constrained"])
def test_the_axes_of_a_movie_stand_still(tmp_path, monkeypatch, layout):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context():
        plots.use_style()
        figure, axes = plt.subplots(figsize=(3, 2), dpi=50, layout=layout)
        places = []

        def draw(step):
            axes.clear()
            axes.plot([0, 10**step])
            axes.set_ylabel("line\n" * (step + 1))
            places.append(axes.get_position().bounds)

        plots.Movie("still", figure, draw, range(3), labels=range(3), alt="A line.")
    assert places[1] == places[2] == places[3] == axes.get_position().bounds


def test_a_strip_has_a_row_of_marks_for_each_kind_from_the_top_down():
    _, axes = plt.subplots()
    plots.strip(axes, {"measured": ("network", [2.1, 3.0]), "theory": ("outlier", [2.2]), "none": ("naive", [])}, 4.2)
    heights = [line.get_segments() for line in axes.collections]
    assert [len(segments) for segments in heights] == [2, 1, 0]
    assert heights[1][0].tolist() == [[2.2, -1.35], [2.2, -0.65]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["measured", "theory", "none"]
    assert axes.get_xlim() == (0, 4.2) and axes.get_ylim() == (-2.6, 0.6)
    assert matplotlib.colors.same_color(axes.collections[1].get_color(), plots.COLOURS["outlier"])
