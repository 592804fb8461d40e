"""No text of a figure ends outside of it, whatever networks are called."""

import pytest

from ntklens.report.figures import style
from ntklens.report.sections import opening_plate, sections

OTHERS = {
    "fc1": "mine.py:build",
    "fc2": "a_model_with_a_long_name.py:factory",
    "fc3": "mine.py:resnet@best.pt",
    "small-cnn": f"model.py:resnet@{'w' * 40}.safetensors",
}
"""Names of networks that users give, for names in the records of the tests."""


def texts_outside(figure):
    """The texts and legends that do not lie within a figure, once it is drawn."""
    with style.styled():
        figure.draw_without_rendering()
    parts = list(figure.legends)
    for axes in figure.axes:
        parts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        # Numbers beyond the ends of an axis are not drawn.
        ticks = axes.get_xticklabels() + axes.get_yticklabels()
        parts += [tick for tick in ticks if tick.get_text().strip("−.0123456789")]
    boxes = [(part, part.get_window_extent()) for part in parts if "mathdefault" not in str(part)]
    canvas = figure.bbox.padded(1)
    return [part for part, box in boxes if box.width and not (canvas.contains(*box.min) and canvas.contains(*box.max))]


def renamed(value):
    for short, long in OTHERS.items():
        value = value.replace(short, long) if isinstance(value, str) else value
    return value


@pytest.mark.parametrize("names", [lambda value: value, renamed], ids=["short names", "long names"])
def test_texts_stay_within_every_figure(make_record, names):
    record = make_record()
    for table, rows in record.tables.items():
        record.tables[table] = [{key: names(value) for key, value in row.items()} for row in rows]
    surrogates = {"surrogate": "entk:small-cnn"}, {"surrogate": "net:small-cnn+mi"}
    for table in ("transfer_means", "transfer_cost"):
        rows = [row for row in record.tables[table] if row["surrogate"] == "noise"]
        record.tables[table] += [{**row, "surrogate": names(new["surrogate"])} for new in surrogates for row in rows]
    for plate in [opening_plate(record), *(plate for section in sections(record) for plate in section.plates)]:
        with style.styled():
            figure = plate.make()
        assert texts_outside(figure) == [], plate.alt
