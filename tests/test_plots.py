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
