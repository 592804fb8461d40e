import pytest

from ntklens.cli import options as o
from ntklens.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("0", 0.0), ("1e-3", 1e-3), ("1 / 4", 0.25), ("-2", -2.0)]
)
def test_a_number_or_a_fraction(text, value):
    assert o.number(text, "--eps") == value


@pytest.mark.parametrize("text", ["", "x", "8/", "/255", "1/0", "8/255/2"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(InputError, match=f'--eps: expected a number or a fraction such as 8/255; got "{text}"'):
        o.number(text, "--eps")


@pytest.mark.parametrize(
    ("text", "classes"),
    [("0,6", ["0", "6"]), (" 2 , 4,", ["2", "4"]), ("Pullover, Ankle boot", ["Pullover", "Ankle boot"]), ("", [])],
)
def test_classes_stay_texts_which_the_data_set_reads(text, classes):
    assert o.data_part(None, None, text, None, None) == {"classes": classes}


def test_names_are_stripped_and_empty_ones_dropped():
    assert o.names(" fc3, conv2 ,,") == ["fc3", "conv2"]
    assert o.names("") == []


@pytest.mark.parametrize(("text", "least", "values"), [("5,20", 1, [5, 20]), (" 0 ", 0, [0])])
def test_whole_numbers(text, least, values):
    assert o.whole_numbers(text, "--ranks", least=least) == values


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0,5", "²"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(InputError, match=f'--ranks: expected whole numbers from 1, separated by commas; got "{text}"'):
        o.whole_numbers(text, "--ranks", least=1)


def test_the_data_part_has_only_what_was_chosen(tmp_path):
    assert o.data_part("digits", None, None, None, None) == {"name": "digits"}
    everything = {"name": "mnist", "data_dir": tmp_path, "classes": ["0", "1"], "train": 10, "test": 5, "size": 32}
    assert o.data_part("mnist", tmp_path, "0,1", 10, 5, 32, rgb=True) == everything | {"mode": "rgb"}
    assert o.data_part("mnist", tmp_path, "0,1", 10, 5, 32, grey=True) == everything | {"mode": "grey"}
    with pytest.raises(InputError, match="--grey and --rgb exclude each other"):
        o.data_part("mnist", None, None, None, None, grey=True, rgb=True)
