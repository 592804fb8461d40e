"""What each figure draws is what its rows say; every axis is named."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from ntklens.report.figures import attack, certificates, dynamics, feature_sets, features, lazy, style
from ntklens.report.figures.pictures import channels, pictures
from ntklens.report.sections import opening_plate, sections


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()}


def drawn(figure):
    """Draw, so that layout and text are exercised; warnings are errors."""
    with style.styled():
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize(("colours", "norm"), [(1, "linf"), (3, "l2")])
def test_every_axis_of_every_figure_is_named(make_record, colours, norm):
    record = make_record(channels=colours, norm=norm)
    plates = [opening_plate(record), *(p for s in sections(record) for p in s.plates)]
    assert len(plates) == (36 if colours == 1 else 37)
    for plate in plates:
        figure = drawn(plate.make())
        assert plate.caption.endswith(".")
        assert plate.alt.endswith(".")
        for axes in figure.axes:
            if axes.name == "polar":
                assert axes.get_title()
            elif not axes.get_images():
                named = axes.get_xlabel() or axes.get_ylabel()
                assert named, plate.alt
                assert not axes.lines or axes.get_xlabel(), plate.alt


def test_the_curve_is_the_table(record):
    rows = record.table("attack_curve")
    axes = drawn(attack.accuracy_curve(rows)).axes[0]
    one_step = [r for r in rows if r["attack"] == "fgsm"]
    assert np.allclose(lines(axes)["one step"], [100 * r["accuracy"] for r in one_step])
    assert len(axes.collections) == 3, "a band an attack"
    heights = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(100 * min(r["accuracy_low"] for r in one_step))
    assert heights.max() == pytest.approx(100 * max(r["accuracy_high"] for r in one_step))


@pytest.mark.parametrize(("norm", "last", "unit"), [("linf", 32, "255ths"), ("l2", 2.0, r"\[0, 1\]")])
def test_radii_are_255ths_for_linf_alone(make_record, norm, last, unit):
    axes = attack.accuracy_curve(make_record(("attack",), norm=norm).table("attack_curve")).axes[0]
    assert axes.get_lines()[0].get_xdata()[-1] == pytest.approx(last)
    assert unit.replace("\\", "") in axes.get_xlabel()


def test_an_unattacked_row_starts_every_line():
    base = {"norm": "linf", "accuracy_low": 0.0, "accuracy_high": 1.0}
    rows = [
        {"attack": "pgd", "eps": 0.1, "accuracy": 0.2, **base},
        {"attack": "none", "eps": 0.0, "accuracy": 0.9, **base},
    ]
    assert np.allclose(lines(attack.accuracy_curve(rows).axes[0])["PGD"], [90, 20])


def test_the_perturbation_map_is_white_at_zero(record):
    x, found = record.array("attack/gallery_x"), record.array("attack/gallery_adv")
    figure = drawn(attack.gallery(record.table("gallery"), x, found))
    maps = [a.get_images()[0] for a in figure.axes[len(x) : 2 * len(x)]]
    for shown in maps:
        low, high = shown.get_clim()
        assert low == -high
        assert shown.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.05)
    assert max(high for _, high in (m.get_clim() for m in maps)) == pytest.approx(8 / 255, rel=1e-5)


def test_lines_over_widths_join_the_means_over_networks(record):
    rows = record.table("lazy")
    axes = drawn(lazy.accuracy_by_width(rows)).axes[0]
    found = lines(axes)["kernel, matched time"]
    chosen = [r for r in rows if r["source"] == "kernel matched time"]
    assert np.allclose(
        found, [100 * np.mean([r["accuracy"] for r in chosen if r["width"] == w]) for w in (64, 256, 1024)]
    )


def test_a_source_may_be_missing_at_a_width(record):
    rows = [r for r in record.table("lazy") if r["source"] != "trained surrogate" or r["width"] == 64]
    drawn(lazy.accuracy_by_width(rows))
    labels = [t.get_text() for t in lazy.at_largest_width(rows).axes[0].get_yticklabels()]
    assert "trained surrogate" not in labels
    assert len(labels) == 5


def test_one_network_a_width_stands_on_its_line(record):
    rows = [r for r in record.table("lazy") if r["seed"] == 0]
    axes = drawn(lazy.at_largest_width(rows)).axes[0]
    assert [float(c.lines[0].get_ydata()[0]) for c in axes.containers] == list(range(6))


def test_points_of_features_are_coloured_by_index(record):
    rows, meta = record.table("features"), record.table("features_meta")[0]
    axes = drawn(features.usefulness_robustness(rows, meta)).axes[0]
    points = next(c for c in axes.collections if isinstance(c, PathCollection))
    by_index = {int(i): p for i, p in zip(points.get_array(), points.get_offsets(), strict=True)}
    for r in rows[:5]:
        assert np.allclose(by_index[r["index"]], [100 * r["usefulness"], 100 * r["robustness"]])
    assert [i for t in axes.texts for i in t.get_text().split(", ")] == ["0", "1", "2", "3"]


def test_head_and_tail_are_marked(record):
    rows, meta, sets = (record.table(name) for name in ("features", "features_meta", "head_tail"))
    figure = drawn(features.usefulness_robustness(rows, meta[0], sets))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"head: 20 features together", "tail: 130 features together"} <= set(names)
    ends = [
        path[0, 1] for c in figure.axes[1].collections if isinstance(c, LineCollection) for path in c.get_segments()
    ]
    assert 19.5 in ends, "the colour scale shows where the head ends"
    curve = drawn(features.top_k(record.table("top_k"), 20)).axes[0]
    assert [t.get_text() for t in curve.texts] == ["head: first 20", "tail: the rest"]
    labels = [t.get_text() for t in drawn(feature_sets.bands(record.table("bands"), 10)).axes[0].get_yticklabels()]
    assert [label.partition(",")[0] for label in labels] == ["head", "head", "tail", "tail"]
    both = drawn(feature_sets.head_and_tail(sets, record.table("head_tail_meta")[0])).axes[0]
    assert next(t.get_text() for t in both.get_yticklabels()) == "head: features 0 to 19"


def test_labels_of_points_next_to_each_other_are_one(record):
    rows, meta = record.table("features"), record.table("features_meta")[0]
    close = [r | {"usefulness": u, "robustness": 0.4} for r, u in zip(rows, (0.6, 0.61, 0.7, 0.8), strict=False)]
    axes = drawn(features.usefulness_robustness(close, meta)).axes[0]
    assert [t.get_text() for t in axes.texts] == ["0, 1", "2", "3"]


def test_eigenvalues_that_are_not_positive_are_left_out_of_the_logarithm():
    axes = drawn(features.spectrum(np.array([1.0, 0.1, 0.0, -1e-9]), np.array([0.5, 0.8, 0.9, 1.0]))).axes[0]
    assert np.isnan(axes.get_lines()[0].get_ydata()).tolist() == [False, False, True, True]


def test_pictures_of_a_feature_share_one_scale_that_the_strongest_fills(record):
    grid = record.array("features/pictures")
    images, rows, columns = (
        record.array("features/picture_images"),
        record.table("picture_rows"),
        record.table("picture_columns"),
    )
    figure = drawn(pictures(rows, columns, images, 1e-6 * grid))
    across = len(rows) + 1
    shown = [figure.axes[j * across + 1].get_images()[0] for j in range(len(columns))]
    peaks = np.array([np.abs(s.get_array()).max() for s in shown])
    means = np.abs(grid[0].mean(1)).max((1, 2))
    assert np.allclose(peaks, means / means.max())
    assert {s.get_clim() for s in shown} == {(-1, 1)}
    drawn(pictures(rows, columns, images, 0 * grid))


def test_channels_of_a_feature_share_one_scale(make_record):
    record = make_record(channels=3)
    grid, images = record.array("features/pictures")[:, 0], record.array("features/picture_images")
    figure = drawn(channels(record.table("picture_rows"), images[0], grid))
    across = len(grid) + 1
    shown = np.stack([figure.axes[c * across + 2].get_images()[0].get_array() for c in range(3)])
    assert np.allclose(shown, grid[1] / np.abs(grid[1]).max())
    assert [figure.axes[c * across].get_ylabel() for c in range(3)] == ["red", "green", "blue"]


def test_distance_maps_share_one_scale(record):
    maps = {t: record.array(f"dynamics/distance_{t}") for t in ("standard", "PGD")}
    scales = {
        a.get_images()[0].get_clim() for a in drawn(dynamics.distance_maps(maps, record.table("dynamics"))).axes[:2]
    }
    assert scales == {(0, max(m.max() for m in maps.values()))}


def test_polar_plots_angle_and_radius(record):
    rows = record.table("dynamics")
    axes = drawn(dynamics.polar(rows)).axes[2]
    standard = [r for r in rows if r["training"] == "standard"]
    assert np.allclose(axes.get_lines()[0].get_xdata(), [r["angle_bottom"] for r in standard])
    assert np.allclose(axes.get_lines()[0].get_ydata(), [r["radius_bottom"] for r in standard])


def test_the_axis_of_shares_makes_no_fall_of_a_hair():
    fig = style.figure(3, 3)
    axes = fig.subplots()
    axes.plot([0, 1], [0.99995, 0.9997])
    dynamics._widen(axes, 0.05)
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(0.05)
    assert low < 0.9997 < 0.99995 < high < 1.01
    axes.set_ylim(0.5, 0.9)
    dynamics._widen(axes, 0.05)
    assert axes.get_ylim() == (0.5, 0.9)


def test_alarms_stand_where_the_cosine_fell(record):
    alarms = [r for r in record.table("advice") if r["kind"] == "catastrophic overfitting"]
    cosine = drawn(dynamics.one_step(record.table("dynamics"), alarms)).axes[1]
    marks = [line.get_xydata().tolist() for line in cosine.get_lines() if line.get_marker() == "v"]
    assert [m for m in marks if m] == [[[9.0, pytest.approx(0.6)]]]


def test_what_is_missing_leaves_a_gap(record):
    rows = [
        r | {"robust_accuracy": None, "robust_accuracy_low": None, "robust_accuracy_high": None}
        for r in record.table("dynamics")
    ]
    score, *_, speed = drawn(dynamics.over_epochs(rows, record.table("dynamics_meta")[0])).axes
    assert len(score.get_lines()) == 3, "no line under attack"
    assert np.isfinite(score.get_lines()[0].get_ydata()).all()
    assert np.isnan(speed.get_lines()[0].get_ydata()).tolist() == [True] + [False] * 12


@pytest.mark.parametrize("name", ["$x^$", r"\frac", "a_b$", "line\nbreak", "x" * 200])
def test_class_names_are_text_and_not_mathematics(make_record, name):
    record = make_record(("attack",), classes=(name, "other"))
    x, found = record.array("attack/gallery_x"), record.array("attack/gallery_adv")
    title = drawn(attack.gallery(record.table("gallery"), x, found)).axes[0].get_title()
    assert len(title.splitlines()) == 2
    assert len(title) < 60


def test_certificates_are_drawn_with_both_ends(record):
    rows, (meta,) = record.table("certified"), record.table("certified_meta")
    axes = drawn(certificates.curves(rows, meta, {"head": "the head", "all": "all"})).axes[0]
    found = lines(axes)
    own = [r for r in rows if r["machine"] == "head"]
    assert found["right under PGD"] == pytest.approx([85.0, *(100 * r["robust_accuracy"] for r in own)])
    assert found["proved right"] == pytest.approx([85.0, *(100 * r["certified_accuracy"] for r in own)])
    assert axes.get_title() == "the head"
    axes = drawn(certificates.features(record.table("certified_features"), meta)).axes[0]
    assert lines(axes)["proved right"] == pytest.approx(
        [100 * r["certified"] for r in record.table("certified_features")]
    )
