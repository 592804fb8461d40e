"""What a run says in words about the user's own data."""

import pytest

from ntklens.record import Record
from ntklens.study.answers import by_category, certificates_answer, claims_answer, features_answer
from ntklens.vocabulary import CANNOT_TELL, CONTRADICTED, FRAGILE, ROBUST, SEEN, USELESS


def both(clean, robust):
    row = {"accuracy": clean, "accuracy_low": clean - 0.05, "accuracy_high": clean + 0.05}
    return row | {"robust_accuracy": robust, "robust_accuracy_low": robust, "robust_accuracy_high": robust, "n": 100}


@pytest.fixture
def record(tmp_path):
    record = Record.create(tmp_path / "run", "features", "Features", {}, {})
    halves = [ROBUST, ROBUST, FRAGILE, USELESS]
    rows = [
        {"index": i, "category": c, "by_half": h}
        for i, (c, h) in enumerate(zip([ROBUST, *halves[2:], USELESS], halves, strict=True))
    ]
    record.tables["features"] = rows
    record.tables["features_meta"] = [{"majority": 0.5, "eps": 8 / 255, "norm": "linf", "n": 200, "steps": 1}]
    sets = {ROBUST: (0.8, 0.7), FRAGILE: (0.75, 0.1), "all": (0.85, 0.2)}
    record.tables["subsets"] = [{"features": name, **both(*values)} for name, values in sets.items()]
    record.tables["top_k"] = [{"k": 2, **both(0.8, 0.7)}, {"k": 4, **both(0.85, 0.2)}]
    record.tables["bands"] = [{"first": 2, "last": 3, "count": 2, "category": FRAGILE, **both(0.78, 0.02)}]
    return record


def test_the_answer_tells_which_features_are_robust_and_what_they_carry(record):
    text = " ".join(features_answer(record))
    assert text.startswith(
        "Of 4 features, each scored alone on all 200 test images at ε = 8/255, 1 (feature 0) is useful"
    )
    assert "the robust features (features 0 to 1) alone are right on 80.0 % [75.0, 85.0] clean and 70.0 %" in text
    assert "so these numbers differ from those above" in text
    assert "carried, together, by features 2 to 3 (78.0 %" in text
    assert "2 keep most under attack" in text
    assert by_category(record)[ROBUST] == [0]
    assert by_category(record)[FRAGILE] == [1]


def test_the_answer_begins_with_head_and_tail(record):
    record.tables["head_tail_meta"] = [{"k": 2, "n": 100, "majority": 0.5}]
    sets = {"head": (0.85, 0.72), "tail": (0.67, 0.01), "all": (0.91, 0.1)}
    record.tables["head_tail"] = [{"features": name, **both(*values)} for name, values in sets.items()]
    first, *others = features_answer(record)
    assert first.startswith("The first 2 features, those of largest eigenvalue, are the head")
    assert "all other features alone on 67.0 % [62.0, 72.0] clean and 1.0 % [1.0, 1.0] under attack" in first
    assert "The categories judge features one by one and are a picture" in others[0]
    assert not any("all features together" in text for text in others), "the first sentence has these numbers"
    assert not any("keep most under attack" in text for text in others), "one choice of the first features is told"


def test_without_an_attack_nothing_is_said_of_robustness(record):
    record.tables["features_meta"][0]["eps"] = 0
    (text,) = features_answer(record)
    assert "2 (features 0 to 1) are shown to be useful" in text
    assert "nothing was attacked" in text


def test_claims_are_told_with_their_statements():
    rows = [
        {
            "claim": "C3",
            "statement": "Features split.",
            "verdict": CANNOT_TELL,
            "would_decide": "about 900 test images",
        },
        {"claim": "C4", "statement": "Features agree.", "verdict": SEEN, "would_decide": ""},
        {"claim": "C5", "statement": "Robust come first.", "verdict": CONTRADICTED, "would_decide": ""},
    ]
    assert claims_answer(rows) == [
        "Of the claims of the papers, seen: C4 (features agree); contradicted: C5 (robust come first); cannot tell: C3 "
        "(features split; about 900 test images would decide). C3, C5 and C6 are judged by head and tail, each taken "
        "together; the categories judge features one by one, are a picture, and decide no claim."
    ]
    assert "head and tail" not in claims_answer(rows[1:2])[0]
    own = {"claim": "N1", "statement": "It is proved.", "verdict": SEEN, "would_decide": ""}
    assert claims_answer([rows[1], own]) == [
        "Of the claims of the papers, seen: C4 (features agree). Of the claims of ntklens, seen: N1 (it is proved)."
    ]


def test_the_answer_tells_what_is_proved(record):
    assert certificates_answer(record) == []
    ends = {"certified_accuracy": 0.6, "certified_accuracy_low": 0.5, "certified_accuracy_high": 0.7}
    record.tables["certified"] = [
        {"machine": name, "eps": eps, **both(0.8, 0.7), **ends} for name in ("head", "all") for eps in (0.01, 8 / 255)
    ]
    record.tables["certified_meta"] = [{"eps": 8 / 255, "n": 100, "about": "It is about machines."}]
    (text,) = certificates_answer(record)
    assert text.startswith(
        "Whatever the perturbation of up to ε = 8/255, the head is proved right on 60.0 % [50.0, 70.0]"
    )
    assert text.endswith("of 100 test images. It is about machines.")


def test_nothing_is_said_twice_where_no_feature_is_chosen(record):
    record.tables["head_tail_meta"] = [{"k": 2, "n": 100, "majority": 0.5}]
    record.tables["head_tail"] = [{"features": name, **both(0.9, 0.1)} for name in ("head", "tail", "all")]
    record.tables["subsets"] = [{"features": "all", **both(0.85, 0.2)}]
    assert len(features_answer(record)) == 2
