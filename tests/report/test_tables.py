import pytest

from ntklens.report.tables import number, table


def test_an_interval_stands_beside_its_value():
    found = table("t", [{"k": 5, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "robust_accuracy": 0.25}])
    assert found.header == ["k", "accuracy [95 % interval]", "robust accuracy"]
    assert found.rows == [["5", "50.0 % [40.0, 60.0]", "25.0 %"]]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.1, 0.3, "0.2 [0.1, 0.3]"), (None, None, "0.2")],
)
def test_a_plain_value_is_no_percentage(low, high, text):
    found = table("t", [{"value": 0.2, "low": low, "high": high}])
    assert found.header == ["value [95 % interval]"]
    assert found.rows == [[text]]


def test_each_value_takes_its_own_interval():
    row = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    row |= {"robust_accuracy": 0.2, "robust_accuracy_low": 0.1, "robust_accuracy_high": 0.3}
    assert table("t", [row]).rows == [["50.0 % [40.0, 60.0]", "20.0 % [10.0, 30.0]"]]


def test_bounds_without_a_value_of_theirs_are_columns():
    assert table("t", [{"null_low": 0.1, "low": 1.0}]).header == ["null low", "low"]


def test_what_is_missing_is_a_dash():
    found = table("t", [{"a": 1, "eps": None}, {"b": 2.0}])
    assert found.header == ["a", "ε", "b"]
    assert found.rows == [["1", "–", "–"], ["–", "–", "2"]]


def test_no_rows_make_no_table():
    assert table("t", []) is None


@pytest.mark.parametrize(("value", "text"), [(1e-9, "1e-09"), (True, "True"), (12345, "12345"), (12345.6, "1.235e+04")])
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


def test_what_people_read_is_in_per_cent_degrees_and_words():
    row = {"training": "none", "linearised": "PGD", "pgd_accuracy": 0.5, "one_step_accuracy": 1.0, "angle": 0.5235988}
    found = table("t", [row])
    assert found.header == ["training", "linearised", "under PGD alone", "under one step", "angle"]
    assert found.rows == [["untrained", "on PGD images", "50.0 %", "100.0 %", "30.0°"]]
