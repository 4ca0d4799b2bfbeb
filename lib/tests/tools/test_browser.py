"""The rendered book, from the committed smoke notebooks, in a real browser."""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urldefrag, urljoin

import pages
import pytest
from playwright.sync_api import sync_playwright
from presets import chapters
from seqdistill.io import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "there is no Chromium on this machine: `apt-get install chromium`"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)]
PHONE = {"width": 390, "height": 844}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A folder with the built book, and its address on the loopback."""
    folder = tmp_path_factory.mktemp("site") / "book"
    pages.build("smoke", folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def broken(asked):
    """Say whether a request failed by itself: one that the tab gave up on its way to the next page did not."""
    return asked.failure != "net::ERR_ABORTED"


@pytest.fixture
def tab(chromium, book):
    """A phone's tab that notes what goes wrong in it; every test ends with nothing noted."""
    context, wrong = chromium.new_context(viewport=PHONE), []
    page = context.new_page()
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}") if broken(asked) else None)
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(book[1]) else outside(route))

    def outside(route):
        wrong.append(f"outside: {route.request.url}")
        route.abort()

    yield page
    context.close()
    assert wrong == []


def addresses(book):
    folder, address = book
    pages = sorted(path.relative_to(folder) for path in folder.rglob("*.html"))
    return [address + str(path) for path in pages if path.parts[0] != "_static"]


def test_every_page_opens_with_its_images_and_equations_on_a_phone(tab, book):
    equations = images = 0
    for address in addresses(book):
        tab.goto(address, wait_until="networkidle")
        if formulas := tab.locator(".math").count():
            tab.evaluate("MathJax.startup.promise.then(() => true)")
            assert tab.locator(".math mjx-container svg").count() >= formulas, address
            assert tab.locator("[data-mjx-error], mjx-merror").count() == 0, address
        shown = tab.eval_on_selector_all(".bd-article img", "all => all.map(one => [one.naturalWidth, one.alt])")
        assert all(width > 0 and len(alt) > 20 for width, alt in shown), address
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        equations, images = equations + formulas, images + len(shown)
    assert equations > 10 and images > 15


def test_no_link_is_broken(tab, book):
    found = {}
    for address in addresses(book):
        tab.goto(address, wait_until="domcontentloaded")
        named = tab.eval_on_selector_all("[id], a[name]", "all => all.map(one => one.id || one.name)")
        linked = tab.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")
        found[address] = (set(named), linked)
    checked = 0
    for address, (_, linked) in found.items():
        for link in linked:
            place, anchor = urldefrag(urljoin(address, link))
            if place.startswith(book[1]):
                checked += 1
                assert place in found, f"{address}: {link}"
                assert not anchor or unquote(anchor) in found[place][0], f"{address}: {link}"
    assert checked > 300


def test_figures_are_numbered_through_the_book(tab, book):
    numbers = []
    for address in [book[1] + "index.html", *(f"{book[1]}{chapter}.html" for chapter in chapters())]:
        tab.goto(address, wait_until="domcontentloaded")
        numbers += tab.locator("figcaption .caption-number").all_inner_texts()
    assert [number.strip() for number in numbers] == [f"Figure {n}" for n in range(1, len(numbers) + 1)]
    assert len(numbers) > 15


def test_every_module_of_both_packages_has_a_page(book):
    for package, folder in (("seqdistill", "api"), ("seqbook", "api-chapters")):
        home = ROOT / "lib" / package
        modules = {".".join(path.relative_to(home.parent).with_suffix("").parts) for path in home.rglob("*.py")}
        modules = {name.removesuffix(".__init__") for name in modules}
        assert modules <= {page.stem for page in (book[0] / folder).glob("*.html")}
