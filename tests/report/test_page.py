"""The page: whole, partial, safe, and the same each time."""

import base64
import re
from html.parser import HTMLParser

import pytest

from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.report import render, write_report

STAGES = ("attack", "victim", "lazy", "transfer", "features", "dynamics")
FIGURES = 36


def sections_of(stage):
    """The sections of the page on a stage."""
    return [stage, "certificates"] if stage == "features" else [stage]


SECTIONS = [section for stage in STAGES for section in sections_of(stage)]


class Page(HTMLParser):
    """What a page holds: its elements by tag, and its text."""

    VOID = frozenset({"meta", "link", "img", "br", "input", "hr"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def ids(page):
    return [attrs["id"] for _, attrs in page.elements if "id" in attrs]


def test_a_whole_study_has_every_part(record):
    page = Page(render(record))
    assert page.open == [], "every element is closed"
    assert ids(page) == [*SECTIONS, "claims", "provenance"]
    assert len(page.all("img")) == FIGURES
    assert all(image["alt"] for image in page.all("img"))
    assert f"Figure {FIGURES}." in page.text
    assert "T-shirt/top, Shirt" in page.text
    assert "not measured" in page.text
    assert "It would take about 900 test images to decide." in page.text
    assert "88.0 % [82.8, 91.8]" in page.text, "the clean accuracy, 176 of 200, with Wilson's interval"
    assert f"numpy {record.provenance['versions']['numpy']}" in page.text


def test_the_claims_on_features_are_told_with_what_they_are_judged_by(record):
    assert "judged by head and tail, each taken together" in render(record)


def test_every_link_leads_somewhere_in_the_page(record):
    page = Page(render(record))
    targets = [a["href"] for a in page.all("a")]
    assert len(targets) == 9
    assert {t.removeprefix("#") for t in targets} == set(ids(page))


@pytest.mark.parametrize("stage", STAGES)
def test_a_single_stage_has_its_section_and_no_other(make_record, stage):
    page = Page(render(make_record((stage,))))
    assert ids(page) == [*sections_of(stage), "claims", "provenance"]
    assert "not measured" not in page.text


def test_a_record_of_nothing_is_a_page(tmp_path):
    page = Page(render(Record.create(tmp_path / "run", "demo", "Nothing yet", {}, {})))
    assert ids(page) == ["provenance"]


def test_tables_that_not_every_experiment_asks_for_may_be_missing(record):
    for name in ("gallery", "victim_gallery", "victim_checks", "lazy_steps", "lazy_regimes", "subsets", "frames"):
        del record.tables[name]
    for name in ("consistency", "side_by_side", "learning", "learning_meta", "attribution", "carriers", "robust_data"):
        del record.tables[name]
    for name in ("continued", "kernel_machines", "certified", "certified_features", "certified_meta"):
        del record.tables[name]
    page = Page(render(record))
    assert ids(page) == [*STAGES, "claims", "provenance"]
    assert len(page.all("img")) == FIGURES - 16


def test_a_record_without_its_arrays_is_a_page(record):
    """So are rows that no figure is drawn from."""
    for name in ("attack_effect", "victim_effect", "lazy_effect", "lazy_cost"):
        del record.tables[name]
    for path in (record.folder / "arrays").iterdir():
        path.unlink()
    page = Page(render(record))
    assert ids(page) == [*SECTIONS, "claims", "provenance"]
    assert len(page.all("img")) == FIGURES - 8


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_fetched(make_record, channels):
    html = render(make_record(channels=channels))
    page = Page(html)
    assert not page.all("script")
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_is_the_same_each_time(record):
    assert render(record) == render(Record.open(record.folder))


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_user_text_is_inert(make_record):
    record = make_record(classes=(HOSTILE, "b"))
    record.title = HOSTILE
    record.provenance["command"] = HOSTILE
    record.tables["claims"][0] |= {"verdict": HOSTILE, "figure": HOSTILE}
    record.tables["summary"][0]["text"] = HOSTILE
    record.tables["lazy"][0]["victim"] = HOSTILE
    record.tables["features"][0]["</th><script>"] = 1
    page = Page(render(record))
    assert not page.all("script")
    assert len(page.all("img")) == FIGURES
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert page.text.count(HOSTILE) >= 6
    for image in page.all("img"):
        figure = base64.b64decode(image["src"].partition(",")[2]).decode()
        assert not re.search(r"<(script|img)\b", figure)


def test_the_report_is_written_into_the_run(make_record, tmp_path):
    record = make_record(("attack",))
    path = write_report(record)
    assert path == record.folder / "report.html"
    assert path.read_text(encoding="utf-8") == render(record)
    assert write_report(record, tmp_path / "other.html") == tmp_path / "other.html"


def test_a_place_that_cannot_be_written_is_named(make_record, tmp_path):
    with pytest.raises(InputError, match=r"no/such/report.html cannot be written .* choose another --out"):
        write_report(make_record(("attack",)), tmp_path / "no/such/report.html")
