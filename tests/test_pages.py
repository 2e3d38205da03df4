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
    """A tab with a page opened at one size, and everything that went wrong since it was."""

    def __init__(self, browser, url: str, viewport: dict, scheme: str = "light"):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.page.on("request", self._note_request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("requestfailed", lambda request: self.errors.append(f"not loaded: {request.url[:200]}"))
        self.open(url)

    def open(self, url: str) -> None:
        """Another page in the same tab, which knows the scripts and fonts that it has read: half the work."""
        self.page.goto("about:blank")  # what the page before it still asks for ends here
        self.outside, self.errors = [], []
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


@pytest.fixture(scope="module")
def tab(browser):
    with Visit(browser, "about:blank", DESKTOP) as visit:
        yield visit


@pytest.fixture(scope="module", params=PAGES)
def chapter(html, tab, request):
    """A page, opened once for all tests that ask for it; those that change it come last."""
    tab.page.set_viewport_size(DESKTOP)
    tab.page.emulate_media(color_scheme="light")
    tab.open((html / "chapters" / f"{request.param}.html").as_uri())
    return tab


@pytest.fixture
def desktop(chapter):
    return at(chapter, DESKTOP, "light")


@pytest.fixture
def phone(chapter):
    """The same page on a phone, in the dark."""
    return at(chapter, PHONE, "dark")


def at(visit, viewport: dict, scheme: str) -> Visit:
    """The page at this size, in this scheme. A change takes half a second: tests of the same kind stand together."""
    if visit.page.viewport_size != viewport:
        visit.page.set_viewport_size(viewport)
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'", timeout=5000)
    return visit


def test_page_is_complete_offline(desktop):
    page = desktop.page
    assert not desktop.outside, f"requests left the machine: {desktop.outside}"
    assert not desktop.errors
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


# Pixels of a picture for one of the page, across and down; in the dark a figure lies on a white card with a margin.
FIGURES = """() => [...document.querySelectorAll('article img')].map(i => {
    const style = getComputedStyle(i), box = i.getBoundingClientRect(), pixels = name => parseFloat(style[name]);
    return [i.naturalWidth / (box.width - pixels('paddingLeft') - pixels('paddingRight')),
            i.naturalHeight / (box.height - pixels('paddingTop') - pixels('paddingBottom'))];
})"""


def test_figures_have_two_pixels_for_one(desktop):
    for across, down in desktop.page.evaluate(FIGURES):
        assert across > 1.95, f"a figure has {across:.2f} pixels for one of the page"
        assert down == pytest.approx(across, rel=0.02), "a figure is out of shape"


CLOSED = """() => [...document.querySelectorAll('.toggle-hidden .admonition-title ~ *, details > :not(summary)')]
    .filter(e => !e.checkVisibility({opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true})
        || e.clientHeight < 10).map(e => e.textContent.slice(0, 80))"""


def test_printing_opens_solutions_and_hides_sidebars(desktop):
    page = desktop.page
    page.emulate_media(media="print")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    try:
        closed = page.evaluate(CLOSED)
        assert not closed, f"closed on paper: {closed}"
        assert page.locator(".bd-sidebar-primary:visible, .bd-sidebar-secondary:visible").count() == 0
        cut = page.evaluate(
            "() => [...document.querySelectorAll('article img')].filter(i => i.clientWidth > i.closest('article')"
            ".clientWidth || getComputedStyle(i).breakInside !== 'avoid').length"
        )
        assert cut == 0, f"{cut} figures can be cut"
    finally:
        page.emulate_media(media="screen")


def test_page_fits_a_phone(phone):
    page = phone.page
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"the page is {width} px wide on a screen of {PHONE['width']}"
    for movie in page.frames[1:]:
        hidden = movie.evaluate("() => document.documentElement.scrollHeight - window.innerHeight")
        assert hidden <= 0, f"{hidden} px of the movie are cut off"
    for across, down in page.evaluate(FIGURES):
        assert down == pytest.approx(across, rel=0.02), "a figure is out of shape"
    assert not phone.outside and not phone.errors


OPEN = """() => {
    document.querySelectorAll('details').forEach(e => e.open = true);
    document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden'));
}"""
# How far a formula ends beyond what can be seen: outwards from it, a box that scrolls brings it within its own edge,
# and a box that hides cuts it there.
CUT = """() => [...document.querySelectorAll('article .math mjx-math')].filter(m => m.getClientRects().length)
    .map(m => {
        let right = m.getBoundingClientRect().right, cut = 0;
        for (let box = m.parentElement; box !== document.body; box = box.parentElement) {
            const flow = getComputedStyle(box).overflowX, edge = box.getBoundingClientRect().right;
            if (flow === 'auto' || flow === 'scroll') right = Math.min(right, edge);
            else if (flow !== 'visible') cut = Math.max(cut, right - edge);
        }
        return Math.max(cut, right - innerWidth);
    })"""


def test_no_formula_is_cut_off_on_a_phone(phone):
    phone.page.evaluate(OPEN)
    cut = [round(pixels) for pixels in phone.page.evaluate(CUT) if pixels > 1]
    assert not cut, f"{len(cut)} formulas end beyond what can be seen or scrolled to, by {cut} px"
    width = phone.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"with all opened the page is {width} px wide"


# Thousands of boxes, and always the same kind of thing: a letter stands for each formula, in code one token of a
# colour for all of its colour, and of a table the first rows. Nothing fades in while it is looked at.
SAMPLE = """() => {
    document.querySelectorAll('mjx-container').forEach(e => e.replaceWith('x'));
    const seen = new Set();
    document.querySelectorAll('pre span').forEach(e => {
        if (e.children.length) return;
        if (seen.has(e.className)) e.replaceWith(e.textContent); else seen.add(e.className);
    });
    document.querySelectorAll('tr:nth-child(n + 20)').forEach(e => e.remove());
    document.body.normalize();
}"""
STILL = "* { transition: none !important; animation: none !important }"
AXE = {"resultTypes": ["violations"], "iframes": False, "rules": {"label-content-name-mismatch": {"enabled": True}}}


def barriers(visit) -> list[str]:
    """What axe-core finds serious or critical on a page, dropdowns open. Takes formulas off the page."""
    from axe_playwright_python.sync_playwright import Axe

    visit.page.evaluate(OPEN)
    visit.page.evaluate(SAMPLE)
    visit.page.add_style_tag(content=STILL)
    found = Axe().run(visit.page, options=AXE).response["violations"]
    return [
        f"{barrier['id']}: {len(barrier['nodes'])} times, as in {barrier['nodes'][0]['html'][:200]}"
        for barrier in found
        if barrier["impact"] in ("serious", "critical")
    ]


TAB_STOPS = """() => [...document.querySelectorAll('article pre')].every(
    e => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"""


def test_no_serious_barrier_in_dark_on_a_phone(phone):
    phone.page.wait_for_function(TAB_STOPS, timeout=5000)  # the theme gives them a moment after the size has changed
    assert not barriers(phone)


def test_no_serious_barrier_in_light(desktop):
    assert not barriers(desktop)


def test_the_pages_fit_into_sixty_megabytes(html):
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) < 60e6


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
        assert not barriers(visit)


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
    with Visit(browser, "about:blank", PHONE) as visit:
        page = visit.page
        for movie in movies:
            visit.open(movie.as_uri())
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
