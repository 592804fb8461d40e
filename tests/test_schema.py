"""Tables that do not have the columns of the schema are refused; the words of the report are columns that exist."""

import pytest

from ntklens import features
from ntklens.features import scores
from ntklens.report import tables
from ntklens.schema import AUDIT_SHARES, TABLES, check_tables
from ntklens.vocabulary import FRAGILE, PARTLY, ROBUST, USELESS

META = {"majority": 0.5, "eps": 0.1, "norm": "linf", "n": 10, "steps": 1}


@pytest.mark.parametrize(
    ("stage", "table", "row", "message"),
    [
        ("features", "features_meta", META | {"step": 1}, r"without \[\] and with \['step'\]"),
        ("features", "features_meta", {"majority": 0.5}, r"without \['eps', 'n', 'norm', 'steps'\]"),
        ("features", "feature_meta", META, 'got "feature_meta"'),
        ("attack", "features_meta", META, 'expected a table of the stage "attack"'),
    ],
)
def test_a_column_or_table_that_is_not_listed_is_refused(stage, table, row, message):
    check_tables("features", {"features_meta": [META]})
    with pytest.raises(ValueError, match=message):
        check_tables(stage, {table: [row]})


def test_a_table_has_one_stage():
    names = [name for tables_of_stage in TABLES.values() for name in tables_of_stage]
    assert len(names) == len(set(names))


def test_what_the_report_formats_are_columns():
    columns = {column for stage in TABLES.values() for table in stage.values() for column in table.every}
    columns |= {*AUDIT_SHARES}
    formatted = {*tables._SHARES, *tables._ANGLES, *tables._HEADINGS, *(column for column, _ in tables._WORDS)}
    assert formatted <= columns


def test_the_categories_have_one_name():
    assert (ROBUST, PARTLY, FRAGILE, USELESS) == (scores.ROBUST, scores.PARTLY, scores.FRAGILE, scores.USELESS)
    assert (features.ROBUST, features.FRAGILE) == (ROBUST, FRAGILE)
