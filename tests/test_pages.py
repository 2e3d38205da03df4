"""The built pages in a real browser, with no network: opened from the folder, as a reader without a server would."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import book  # noqa: E402

import chapters  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "REQUIRE_BROWSER" not in os.environ,
    reason="no Chromium on this machine (Debian: apt-get install chromium): pages not opened",
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
PAGES = sorted(path.stem for path in chapters.pages())
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    """The pages, built from stored outputs with warnings as errors. BOOK_HTML names pages built already."""
    if "BOOK_HTML" in os.environ:
        return Path(os.environ["BOOK_HTML"])
    output = tmp_path_factory.mktemp("pages")
    return book.build(book.stage(output / "source"), output).parent


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One page opened at one size, with everything that went wrong meanwhile."""

    def __init__(self, browser, url: str, viewport: dict, scheme: str = "light"):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.outside, self.errors = [], []
        self.page.on("request", self._note_request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("requestfailed", lambda request: self.errors.append(f"not loaded: {request.url[:200]}"))
        self.page.goto(url)
        self.page.wait_for_function(
            "window.MathJax?.startup?.promise !== undefined || !document.querySelector('.math')"
        )
        self.page.evaluate("() => window.MathJax?.startup?.promise")

    def _note_request(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self.outside.append(request.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete_offline(html, browser, name):
    with Visit(browser, (html / "chapters" / f"{name}.html").as_uri(), DESKTOP) as visit:
        page = visit.page
        assert not visit.outside, f"requests left the machine: {visit.outside}"
        assert not visit.errors
        raw = page.evaluate(
            "() => [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container'))"
            ".map(e => e.textContent)"
        )
        assert not raw, f"formulas that did not render: {raw[:3]}"
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert page.evaluate("() => [...document.images].every(i => i.complete && i.naturalWidth > 0)")
        described = page.evaluate("() => [...document.querySelectorAll('article img')].map(i => i.alt)")
        described += page.evaluate("() => [...document.querySelectorAll('article iframe')].map(f => f.title)")
        missing = [alt for alt in described if len(alt) < 20 or alt.endswith((".png", ".jpeg", ".svg"))]
        assert not missing, f"figures or movies without a description: {missing}"


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(html, browser, name):
    with Visit(browser, (html / "chapters" / f"{name}.html").as_uri(), PHONE) as visit:
        width = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"the page is {width} px wide on a screen of {PHONE['width']}"
        for movie in visit.page.frames[1:]:
            hidden = movie.evaluate("() => document.documentElement.scrollHeight - window.innerHeight")
            assert hidden <= 0, f"{hidden} px of the movie are cut off"
        assert not visit.outside and not visit.errors


def test_the_address_to_open_leads_to_the_preface(html, browser):
    with Visit(browser, (html / "index.html").as_uri(), DESKTOP) as visit:
        visit.page.wait_for_url("**/chapters/preface.html")
        assert visit.page.locator("h1").first.inner_text().startswith("Outlier Escape")
        assert not visit.outside and not visit.errors


def test_search_finds_a_chapter(html, browser):
    with Visit(browser, (html / "search.html").as_uri() + "?q=outlier", DESKTOP) as visit:
        visit.page.wait_for_selector("#search-results li", timeout=10_000)
        assert visit.page.locator("#search-results li a").count() >= 1
        assert not visit.outside and not visit.errors


def test_dark_mode_follows_the_system_and_the_button(html, browser):
    url = (html / "chapters" / "preface.html").as_uri()
    with Visit(browser, url, DESKTOP, scheme="dark") as visit:

        def brightness() -> int:
            colour = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
            return max(visit.page.evaluate(colour))

        def press_until(mode: str) -> None:
            for _ in range(3):
                if visit.page.evaluate("() => document.documentElement.dataset.mode") != mode:
                    visit.page.locator("button.theme-switch-button:visible").first.click()
            visit.page.wait_for_timeout(500)  # the colour fades over

        assert brightness() < 60
        press_until("light")
        assert brightness() > 240
        press_until("dark")
        assert brightness() < 60
        assert not visit.outside and not visit.errors


def test_movies_play(html, browser):
    movies = sorted((html / "chapters" / "movies").glob("*.html"))
    assert movies
    for movie in movies:
        with Visit(browser, movie.as_uri(), PHONE) as visit:
            page = visit.page
            page.locator("button").click()
            page.wait_for_function("() => document.querySelector('input').value > 0", timeout=5000)
            assert 0 < int(page.locator("input").input_value()) < int(page.locator("input").get_attribute("max"))
            assert page.evaluate("() => document.querySelector('img').naturalWidth") > 0
            assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
            assert not visit.outside and not visit.errors


def test_every_page_offers_its_source_and_a_notebook_says_first_how_it_runs(html):
    for name in PAGES:
        page = html / "chapters" / f"{name}.html"
        (link,) = set(re.findall(r'href="(\.\./_sources/[^"]+)"', page.read_text(encoding="utf-8")))
        offered = (page.parent / link).resolve()
        assert offered.stem == name and offered.is_file()
        if offered.suffix == ".ipynb":
            assert "pip install" in offered.read_text(encoding="utf-8")[:2000]


def test_the_first_page_hands_out_the_library_and_all_chapters(html, browser):
    url = (html / "chapters" / "preface.html").as_uri()
    for ending in (".whl", ".zip"):
        with Visit(browser, url, DESKTOP) as visit, visit.page.expect_download() as download:
            visit.page.locator(f"article a[href$='{ending}']").click()
            assert download.value.path().stat().st_size > 100_000


def test_the_pages_with_all_that_they_offer_stay_small(html):
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) < 60e6
