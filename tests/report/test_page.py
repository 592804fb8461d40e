import base64
import re

import pytest

from ntklens.errors import InputError
from ntklens.record import Record, provenance
from ntklens.report import render, write_report

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def page(record) -> str:
    return render(record)


def test_every_stage_has_its_section_and_every_figure_its_words(page):
    for key in ("claims", "attack", "transfer", "features", "dynamics", "provenance"):
        assert f'id="{key}"' in page
    assert page.count("<figure>") == page.count("<figcaption>") == 11
    assert all(re.findall(r'alt="([^"]*)"', page))


def test_the_page_is_whole(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page


def test_names_are_text_and_not_markup(page):
    assert "&lt;script&gt;" in page
    assert "A run &amp; its &lt;report&gt;" in page


def test_the_same_record_gives_the_same_page(record, page):
    assert render(record) == page


def test_axes_are_named(page):
    """Each plot with a Cartesian axis names both of its axes; text is drawn as paths, with the words as comments."""
    plots = [base64.b64decode(s).decode() for s in re.findall(r"svg\+xml;base64,([^\"]+)", page)]
    curve = plots[0]
    assert "radius ε of the linf ball" in curve
    assert "accuracy on test images (%)" in curve


def test_numbers_are_in_the_tables(page, record):
    first = record.table("attack_curve")[0]["accuracy"]
    assert f"<td>{first:.4g}</td>" in page


def test_stages_that_were_not_run_are_left_out(tmp_path):
    bare = Record.create(tmp_path / "bare", "test", "Bare", {}, provenance(seed=0, data="-"))
    text = render(bare)
    assert "<figure>" not in text
    assert 'id="dynamics"' not in text


def test_a_place_that_cannot_be_written_is_said(record, tmp_path):
    with pytest.raises(InputError, match=r"cannot be written"):
        write_report(record, tmp_path / "no" / "such" / "folder.html")


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_real_browser(record, tmp_path, width):
    """Debian's Chromium: no console message, no request, no broken figure, nothing wider than the window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    import os

    if not os.path.exists(CHROMIUM):
        pytest.skip(f"{CHROMIUM} is not there; install Debian's chromium")
    path = write_report(record, tmp_path / "report.html")
    with playwright.sync_playwright() as p:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=options)
        tab = browser.new_page(viewport={"width": width, "height": 900})
        messages: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda m: messages.append(m.text))
        tab.on("pageerror", lambda e: messages.append(str(e)))
        tab.on("request", lambda r: requests.append(r.url))
        tab.goto(path.as_uri())
        assert messages == []
        assert [r for r in requests if not r.startswith("data:")] == [path.as_uri()]
        assert tab.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
        assert tab.evaluate("document.images.length") == 11
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
