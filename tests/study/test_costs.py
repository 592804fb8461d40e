"""What a run is expected to take, and how that is said."""

import pytest

from ntklens.study import Spec, run
from ntklens.study.context import Context
from ntklens.study.costs import estimate
from ntklens.study.costs.timing import is_busy, timed
from ntklens.study.parts import EPOCHS, NO_CHECKS, TEST, TRAIN, Part, sentence

PARTS = [Part("kernel matrix", 180.0, TRAIN), Part("attack", 1500.0, TEST), Part("checks", 1720.0, NO_CHECKS)]


class Clock:
    """A clock that moves when work is done on it."""

    def __init__(self):
        self.now, self.sizes = 0.0, []

    def __call__(self):
        return self.now

    def work(self, seconds, first=0.0):
        def prepare(size):
            def run():
                self.now += seconds(size) + (first if not self.sizes else 0.0)
                self.sizes.append(size)

            return run

        return prepare


@pytest.mark.parametrize(
    ("seconds", "power"),
    [
        (lambda n: 1e-3 * n, 1.0),
        (lambda n: 0.01 + 1e-3 * n, 1.0),  # every call has its latency
        (lambda n: 1e-6 * n**2, 2.0),
        (lambda n: 1e-4 * n + 1e-6 * n**2, 2.0),  # a kernel with work per image
    ],
)
def test_large_work_is_told_from_small_work(seconds, power):
    clock = Clock()
    prepare = clock.work(seconds, first=10.0)  # what is compiled at first does not count
    assert timed(prepare, 100_000, 0.15, power=power, clock=clock) == pytest.approx(seconds(100_000), rel=0.2)
    assert clock.now < 10 + 8


def test_work_that_is_small_is_measured_whole():
    clock = Clock()
    assert timed(clock.work(lambda n: 1e-4 * n), 50, 0.1, clock=clock) == pytest.approx(5e-3)
    assert clock.sizes[-1] == 50


def test_work_that_takes_long_is_run_twice():
    clock = Clock()
    assert timed(clock.work(lambda n: 3.0 * n), 100, 0.1, clock=clock) == pytest.approx(300.0)
    assert clock.sizes == [1, 1]


def test_latency_is_not_taken_for_work():
    clock = Clock()
    seconds = timed(clock.work(lambda n: 0.2 + 1e-4 * n), 1000, 0.15, clock=clock)
    assert seconds == pytest.approx(0.3, rel=0.1)


def test_a_run_that_other_work_holds_up_is_not_scaled_up():
    clock, held_up = Clock(), []

    def seconds(size):
        """A hundredth of a second per piece; the second size is held up for 20 seconds, once."""
        if len(set(clock.sizes)) == 1 and size not in clock.sizes and not held_up:
            held_up.append(size)
            return 20.0
        return 0.01 * size

    assert timed(clock.work(seconds), 100_000, 0.15, clock=clock) == pytest.approx(1000, rel=0.2)
    assert held_up


def test_a_first_run_that_is_held_up_is_not_scaled_up():
    clock = Clock()
    held_up = iter([0.0, 40.0])
    assert timed(clock.work(lambda n: 0.01 * n + next(held_up, 0.0)), 100_000, 0.15, clock=clock) == pytest.approx(
        1000, rel=0.2
    )


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_small_pieces_whose_threads_wait_are_not_scaled_up(power):
    """Between other processes, a piece of four images waits for a second, and so does one of forty."""
    clock = Clock()
    seconds = timed(clock.work(lambda n: 1.1 + 1e-5 * n**2), 200, 0.15, start=4, power=power, clock=clock)
    assert 1.5 <= seconds < 15
    assert clock.now < 20


def test_a_busy_machine_is_told(monkeypatch):
    estimate = {"attack": [Part("attacks", 9000.0, TEST)]}
    assert sentence(estimate, busy=True).endswith("this estimate is not to be relied on.")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for load, busy in ((1.9, False), (4.0, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert is_busy() == busy


def test_a_short_run_is_begun_without_a_word():
    assert sentence({"victim": [Part("attack", 9.9)]}, {"--test"}) == ""


@pytest.mark.parametrize(
    ("estimate", "flags", "expected"),
    [
        (
            {"victim": PARTS},
            {"--no-checks", "--test", "--train"},
            "This takes about 57 minutes: the kernel matrix 3, the attack 25, the checks 29; --no-checks saves most.",
        ),
        (
            {"victim": PARTS},
            {"--test"},
            "This takes about 57 minutes: the kernel matrix 3, the attack 25, the checks 29; a smaller --test saves most.",
        ),
        (
            {"victim": PARTS},
            None,
            "This takes about 57 minutes: the kernel matrix 3, the attack 25, the checks 29; `victim.checks = false` saves "
            "most.",
        ),
        (
            {
                "attack": [Part("kernel matrix", 3.0, TRAIN), Part("attacks", 30.0, TEST)],
                "dynamics": [Part("trainings", 40.0, EPOCHS)],
            },
            set(),
            "This takes about 73 seconds: the stage attack 33, the stage dynamics 40.",
        ),
        (
            {"attack": [Part("attacks", 9000.0, TEST)]},
            {"--test"},
            "This takes about 2.5 hours; a smaller --test saves most.",
        ),
    ],
)
def test_the_sentence_has_natural_units_and_an_option_that_the_command_has(estimate, flags, expected):
    assert sentence(estimate, flags) == expected


WHOLE = {
    "data": {"name": "digits", "train": 60, "test": 20},
    "attack": {"steps": 2},
    "lazy": {"widths": [8], "seeds": 1, "steps": 2, "checkpoints": [1, 2], "regimes": ["lazy"]},
    "features": {"compare": ["fc3"], "scored": 10, "learning_steps": 2, "robust_networks": ["fc1"], "robust_epochs": 1},
    "transfer": {"surrogates": ["noise", "linear", "ntk:fc1", "ntk:fc1+mi", "net:fc2"], "victims": ["fc2"], "seeds": 1},
    "dynamics": {"epochs": 2, "probe": 12, "top_k": 2, "linear_from": [1], "machine_train": 20, "architecture": "fc2"},
}


def test_every_stage_is_estimated_and_the_machine_is_fitted_once():
    context = Context(Spec.parse(WHOLE))
    stages = [stage for stage in WHOLE if stage != "data"]
    result = estimate(context, stages)
    assert set(result) == set(stages)
    assert all(part.seconds >= 0 for parts in result.values() for part in parts)
    fits = [part.seconds for parts in result.values() for part in parts if part.name == "kernel matrix"]
    assert fits[0] > 0
    assert fits[1:] == [0.0] * (len(fits) - 1)
    (variant,) = [part for part in result["transfer"] if part.name == "surrogate ntk:fc1+mi"]
    assert variant.seconds > 0


def test_estimated_and_taken_seconds_are_in_the_record(tmp_path):
    told = []
    spec = Spec.parse({name: WHOLE[name] for name in ("data", "attack", "features")})
    record = run(spec, tmp_path / "run", tell=told.append)
    (estimated,) = told
    rows = record.provenance["cost"]
    assert [row["part"] for row in rows][:2] == ["kernel matrix", "attacks"]
    assert {row["stage"] for row in rows} == {"attack", "features"} == set(estimated)
    assert all(row["taken"] >= 0 for row in rows)


def test_without_a_receiver_nothing_is_estimated(tmp_path):
    record = run(Spec.parse({"data": WHOLE["data"], "attack": {"steps": 1}}), tmp_path / "run")
    assert [row["estimated"] for row in record.provenance["cost"]] == [None, None]


def test_a_stage_that_cannot_be_estimated_is_run_all_the_same():
    context = Context(Spec.parse(WHOLE))
    context.kernel = lambda name=None: 1 / 0
    assert "attack" not in estimate(context, ["attack"])
