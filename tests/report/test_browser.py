"""The page in a real browser: nothing fetched, nothing broken, nothing wider than the screen."""

import shutil

import pytest

from ntklens.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as p:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_the_page_stands_alone(browser, make_record, width, scheme):
    path = write_report(make_record(channels=3)).resolve()
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.querySelector('.plate')).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


def test_links_lead_to_their_sections(browser, make_record):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(write_report(make_record()).resolve().as_uri())
    page.click("nav a[href='#dynamics']")
    assert abs(page.evaluate("document.querySelector('#dynamics').getBoundingClientRect().top")) < 50
    page.close()
