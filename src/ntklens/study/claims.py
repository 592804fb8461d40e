"""The paper's claims C1 to C8, and L1, each held against the tables of a record: seen, not seen here, not measured here.

Statements after Tsilivis & Kempe 2022 (C1 to C6) and Loo et al. 2022 (C7, C8, L1). A claim is "seen" when its rule,
written in the function of its name, holds with the 95 % interval where there is one; a single run says so.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ntklens.record import Record
from ntklens.statistics import rank_correlation

Verdict = tuple[bool, str]
"""(seen, the figure as a sentence)."""


def claims(record: Record) -> list[dict[str, Any]]:
    """One row a claim: statement, verdict, figure."""
    rows = []
    for name, (statement, needs, judge) in _CLAIMS.items():
        row = {"claim": name, "statement": statement}
        if not all(record.table(table) for table in needs):
            rows.append(row | {"verdict": "not measured here", "figure": ""})
            continue
        verdict = judge(record)
        if verdict is None:
            rows.append(row | {"verdict": "not measured here", "figure": ""})
            continue
        seen, figure = verdict
        rows.append(row | {"verdict": "seen" if seen else "not seen here", "figure": figure})
    return rows


def summary(record: Record) -> list[dict[str, Any]]:
    """What the run says, in plain words: a few sentences for the top of the report."""
    sentences = []
    if data := record.table("data"):
        d = data[0]
        _, height, width = str(d["shape"]).split("x")
        sentences.append(
            f"The images are {d['name']} ({d['classes']}): {d['train']} to fit on, {d['test']} to score on, "
            f"{height}x{width} pixels each."
        )
    if curve := record.table("attack_curve"):
        eps = _at_eps(record)
        clean = next(r for r in curve if r["eps"] == 0)
        rows = {r["attack"]: r for r in curve if r["eps"] == eps}
        sentences.append(
            f"The kernel machine, which trains no network, is right on {_share(clean)} of clean images. Perturbations of "
            f"ε = {_pixels(eps)} made from the kernel alone bring that down to {_share(rows['fgsm'])} in one step; random "
            f"signs of the same size leave {_share(rows['noise'])}."
        )
    sentences += _victim(record)
    verdicts = claims(record)
    seen = [r["claim"] for r in verdicts if r["verdict"] == "seen"]
    unseen = [r["claim"] for r in verdicts if r["verdict"] == "not seen here"]
    parts = [f"seen here: {', '.join(seen)}" if seen else "", f"not seen here: {', '.join(unseen)}" if unseen else ""]
    if any(parts):
        sentences.append("Of the paper's claims, " + "; ".join(p for p in parts if p) + ".")
    return [{"text": s} for s in sentences]


def _victim(record: Record) -> list[str]:
    """The surrogate's time, and what casts doubt on the figures."""
    sentences = []
    meta: dict[str, Any] = next(iter(record.table("victim_meta")), {})
    if meta.get("surrogate") and meta.get("kernel"):
        time = "∞" if meta["time"] is None else f"{meta['time']:.3g}"
        sentences.append(
            f"The surrogate's training time is ηt = {time}; finding it took {meta['queries']} queries of the victim, "
            "beside those that score the images."
        )
    whose = "surrogate" if meta.get("surrogate") else "network"
    failed = [str(c["seen"]) for c in record.table("victim_checks") if c["passed"] == "no"]
    return sentences + ([f"Read the figures with care; of the {whose}: {' '.join(failed)}"] if failed else [])


def _share(row: dict[str, Any], key: str = "accuracy", low: str = "low", high: str = "high") -> str:
    return f"{_percent(row[key])} [{100 * row[low]:.1f}, {100 * row[high]:.1f}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(row: dict[str, Any]) -> str:
    return f"{100 * row['value']:.1f} points [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _pixels(eps: float) -> str:
    steps = eps * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{eps:g}"


def _at_eps(record: Record) -> float:
    eps: Any = record.table("attack_effect")[0]["eps"]
    return float(eps)


def _c1(record: Record) -> Verdict:
    """Seen when one step lowers the accuracy by more than noise of the same size does."""
    row: dict[str, Any] = record.table("attack_effect")[0]
    return row["low"] > 0, f"One step lowers the machine's accuracy by {_points(row)} more than noise of the same ε."


def _c2(record: Record) -> Verdict:
    """Seen when, at the largest width, the matched-time examples beat noise and come nearer to the white box."""
    rows: list[dict[str, Any]] = record.table("lazy_effect")
    widths = sorted({r["width"] for r in rows})

    def effect(width: int, first: str, second: str) -> dict[str, Any]:
        return next(r for r in rows if (r["width"], r["first"], r["second"]) == (width, first, second))

    beyond = effect(widths[-1], "noise", "kernel matched time")
    short, narrow = (effect(w, "kernel matched time", "white-box") for w in (widths[-1], widths[0]))
    closes = len(widths) == 1 or short["value"] <= narrow["value"]
    return beyond["low"] > 0 and closes, (
        f"At width {widths[-1]} the kernel's examples at matched time cost a network {_points(beyond)} more than noise; "
        f"they fall short of its own white-box examples by {_points(short)}, against {_points(narrow)} at width "
        f"{widths[0]}."
    )


def _c3(record: Record) -> Verdict | None:
    """Seen when there are features, or bands of features tested together, of both kinds."""
    if _unattacked(record):
        return None
    names = [r["category"] for r in record.table("features")]
    robust, fragile = names.count("robust and useful"), names.count("useful non-robust")
    partly = names.count("useful, partly robust")
    between = f"{partly} in between, " if partly else ""
    sentence = (
        f"Of {len(names)} features, {robust} are useful and robust, {between}{fragile} useful but not robust, "
        f"{len(names) - robust - fragile - partly} not shown to be useful by the test on the figure."
    )
    strong, weak = (
        [f"{r['first']} to {r['last']}" for r in _bands(record, kind) if r["count"] > 1]
        for kind in ("robust and useful", "useful non-robust")
    )
    for bands, what in ((strong, "robust"), (weak, "not robust")):
        if bands:
            sentence += f" Taken together, features {', '.join(bands)} are useful and, under one step, {what}."
    return bool(robust or strong) and bool(fragile or weak), sentence


def _c4(record: Record) -> Verdict | None:
    """Seen when, for every other kernel, every measure of agreement that there is lies above what chance gives."""
    rows: list[dict[str, Any]] = [r for r in record.table("consistency") if r["null_high"] is not None]
    found = [r for r in rows if r["value"] is not None]
    if not found:
        return None
    first = str(found[0]["measure"])
    parts = [
        f"{r['kernel_a']} and {r['kernel_b']}: {r['value']:.2f} (chance: up to {r['null_high']:.2f})"
        for r in found
        if r["measure"] == first
    ]
    below = [f"{r['measure']}, {r['kernel_b']}" for r in found if not r["value"] > r["null_high"]]
    unknown = [f"{r['measure']}, {r['kernel_b']}" for r in rows if r["value"] is None]
    all_above = (
        f"Not above chance: {'; '.join(below)}."
        if below
        else f"All {len(found)} measures are above the 97.5 % point of chance."
    )
    without = f" Without a value, as one side is constant: {'; '.join(unknown)}." if unknown else ""
    return not below, f"{first[0].upper()}{first[1:]} is {', '.join(parts)}. {all_above}{without}"


def _c5(record: Record) -> Verdict | None:
    """Seen when all bands that are robust and useful come before all useful non-robust ones, and a network learns so.

    That the robustness of features of any use falls with their place in the spectrum holds for random labels too: functions
    of large eigenvalues are the smooth ones. So it is told, and judged are the useful ones alone.
    """
    if _unattacked(record):
        return None
    rows: list[dict[str, Any]] = record.table("features")
    rho = rank_correlation([r["index"] for r in rows], [r["robustness"] for r in rows])
    robust, fragile = (_bands(record, kind) for kind in ("robust and useful", "useful non-robust"))
    seen = bool(robust and fragile) and max(r["last"] for r in robust) < min(r["first"] for r in fragile)
    if robust and fragile:
        sentence = (
            f"Of the bands of the spectrum, under one step, robust and useful ones end at feature "
            f"{max(r['last'] for r in robust)}, useful non-robust ones begin at {min(r['first'] for r in fragile)}."
        )
    else:
        missing = " and no ".join(
            kind for kind, found in (("robust and useful", robust), ("useful non-robust", fragile)) if not found
        )
        sentence = f"There is no {missing} band of the spectrum to compare."
    if rho.value == rho.value:
        sentence += (
            f" Rank correlation of robustness with the place, all features: {rho.value:.2f} [{rho.low:.2f}, "
            f"{rho.high:.2f}]; it falls with any labels."
        )
    if not record.table("learning_meta"):
        return seen, f"{sentence} By construction, training of the kernel learns the features in that order."
    meta: dict[str, Any] = record.table("learning_meta")[0]
    if meta["value"] is None:
        return seen, f"{sentence} In so few steps the network of width {meta['width']} gave no order."
    return seen and meta["low"] > 0, (
        f"{sentence} The step at which a network of width {meta['width']} has learned half of a feature goes with its "
        f"place by {meta['value']:.2f} [{meta['low']:.2f}, {meta['high']:.2f}]."
    )


def _c6(record: Record) -> Verdict | None:
    """Seen when fewer features are useful, more robust and not more accurate, and a band of the others is non-robust."""
    if _unattacked(record):
        return None
    rows: list[dict[str, Any]] = record.table("top_k")
    meta: dict[str, Any] = record.table("features_meta")[0]
    full, robust = rows[-1], ("robust_accuracy", "robust_low", "robust_high")
    useful = [r for r in rows[:-1] if r["low"] > meta["majority"]]
    everything = f"All {full['k']} features: accuracy {_share(full)}, under one step {_share(full, *robust)}."
    if not useful:
        return False, f"{everything} No smaller number of the first ones is more accurate than the majority class."
    best = max(useful, key=lambda r: r["robust_accuracy"])
    sentence = f"{everything} The first {best['k']}: {_share(best)}, {_share(best, *robust)}."
    trade = best["robust_low"] > full["robust_high"] and best["low"] <= full["high"]
    fragile = [r for r in _bands(record, "useful non-robust") if r["first"] >= best["k"]]
    if not fragile:
        return False, f"{sentence} No band of the other features is useful and not robust."
    most = max(fragile, key=lambda r: r["accuracy"])
    return trade, (
        f"{sentence} Features {most['first']} to {most['last']} alone: {_share(most)}, {_share(most, *robust)}."
    )


def _bands(record: Record, category: str) -> list[dict[str, Any]]:
    """Stretches of the spectrum of a category, in their order."""
    rows: list[dict[str, Any]] = record.table("bands")
    return [r for r in rows if r["category"] == category]


def _unattacked(record: Record) -> bool:
    """Whether ε was zero, where robustness is nothing but usefulness."""
    eps: Any = record.table("features_meta")[0]["eps"]
    return bool(eps == 0)


def _of(rows: list[dict[str, Any]], training: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["training"] == training]


def _both(rows: list[dict[str, Any]]) -> bool:
    """Whether there are rows of the two trainings that a claim compares, of the same seeds."""
    seeds = [{r["seed"] for r in _of(rows, training)} for training in ("PGD", "standard")]
    return bool(seeds[0]) and seeds[0] == seeds[1]


def _c7(record: Record) -> Verdict | None:
    """Seen when, in every seed, the kernel slows down for good at an earlier epoch under PGD training."""
    rows: list[dict[str, Any]] = record.table("lazy_epochs")
    meta: dict[str, Any] = record.table("dynamics_meta")[0]
    own = [r for r in rows if r["threshold"] == meta["lazy_threshold"]]
    epochs = {t: [r["epoch"] for r in _of(own, t)] for t in ("PGD", "standard")}
    if not _both(own):
        return None
    never = float("inf")
    pairs = [
        (never if a is None else a, never if s is None else s)
        for a, s in zip(epochs["PGD"], epochs["standard"], strict=True)
    ]

    def say(found: list[float | None]) -> str:
        return " and ".join("at no epoch of the run" if e is None else f"from epoch {e:g} on" for e in found)

    later = {r["threshold"] for r in rows if r["epoch"] is not None}
    others = "; ".join(
        f"{t:g}: {'/'.join(_epoch(r) for r in _of(rows, 'PGD') if r['threshold'] == t)} and "
        f"{'/'.join(_epoch(r) for r in _of(rows, 'standard') if r['threshold'] == t)}"
        for t in sorted(later - {meta["lazy_threshold"]}, reverse=True)
    )
    sentence = (
        f"The kernel moves by less than {meta['lazy_threshold']:g} an epoch under PGD training {say(epochs['PGD'])}; under "
        f"standard training {say(epochs['standard'])} ({_runs(pairs)})."
    )
    if others:
        sentence += f" First epochs at other thresholds, PGD and standard: {others}."
    travelled = {t: ", ".join(f"{v:.2f}" for v in _travelled(record, t)) for t in ("PGD", "standard")}
    sentence += (
        f" After its first epoch the kernel travels {travelled['PGD']} under PGD, {travelled['standard']} under standard "
        "training, in sums of kernel distances."
    )
    return all(a < s for a, s in pairs), sentence


def _travelled(record: Record, training: str) -> list[float]:
    """The way of a kernel after the first recorded step, in kernel distance, a value a seed."""
    rows = _of(record.table("dynamics"), training)
    ways = []
    for seed in sorted({int(r["seed"]) for r in rows}):
        own = [r for r in rows if r["seed"] == seed]
        ways.append(sum(float(b["velocity"]) * (b["epoch"] - a["epoch"]) for a, b in pairwise(own[1:])))
    return ways


def _epoch(row: dict[str, Any]) -> str:
    return "none" if row["epoch"] is None else f"{row['epoch']:g}"


def _runs(pairs: list[Any]) -> str:
    return "one run of each" if len(pairs) == 1 else f"{len(pairs)} seeds"


def _last(record: Record, training: str, key: str) -> list[float]:
    """A measure at the last epoch, a value a seed."""
    rows = _of(record.table("dynamics"), training)
    seeds = sorted({int(r["seed"]) for r in rows})
    return [float([r for r in rows if r["seed"] == s][-1][key]) for s in seeds]


def _c8(record: Record) -> Verdict | None:
    """Seen when, in every seed, the kernel ends with more of its energy in the top eigenspaces under PGD training."""
    ends = {epoch for training in ("PGD", "standard") for epoch in _last(record, training, "epoch")}
    if not _both(record.table("dynamics")) or len(ends) > 1:
        return None
    meta: dict[str, Any] = record.table("dynamics_meta")[0]
    last = {t: _last(record, t, "concentration") for t in ("PGD", "standard")}
    rank = {t: _last(record, t, "effective_rank") for t in ("PGD", "standard")}
    start = record.table("dynamics")[0]["concentration"]

    def say(values: list[float], digits: int = 4) -> str:
        return ", ".join(f"{v:.{digits}f}" for v in values)

    return all(a > s for a, s in zip(last["PGD"], last["standard"], strict=True)), (
        f"Share of the squared spectrum in the top {meta['top_k']}: {say(last['PGD'])} after PGD training, "
        f"{say(last['standard'])} after standard training, {start:.4f} before ({_runs(last['PGD'])}); effective rank "
        f"{say(rank['PGD'], 1)} and {say(rank['standard'], 1)}."
    )


def _l1(record: Record) -> Verdict | None:
    """Seen when, by interval, machines fitted on clean images are more robust on PGD-trained than on standard kernels."""
    rows: list[dict[str, Any]] = [r for r in record.table("kernel_machines") if r["accuracy"] is not None]
    robust = ("robust_accuracy", "robust_low", "robust_high")
    if not _both(rows):
        return None
    pgd, standard = _of(rows, "PGD"), _of(rows, "standard")
    seen = all(a["robust_low"] > s["robust_high"] for a, s in zip(pgd, standard, strict=True))
    parts = [
        f"{name}: {'; '.join(f'{_share(r, *robust)} (clean {_share(r)})' for r in found)}"
        for name, found in (("PGD", pgd), ("standard", standard), ("untrained", _of(rows, "none")))
    ]
    return (
        seen,
        f"Worst-case accuracy (clean, PGD and Square) of machines fitted on clean images, by the network of the kernel. "
        f"{'. '.join(parts)}.",
    )


_FEATURES = ("features", "features_meta", "bands")

_CLAIMS: dict[str, tuple[str, tuple[str, ...], Callable[[Record], Verdict | None]]] = {
    "C1": ("Adversarial examples made from the kernel alone fool the kernel machine.", ("attack_effect",), _c1),
    "C2": ("They transfer to finite networks in the lazy regime, better with width.", ("lazy_effect",), _c2),
    "C3": ("Features split into robust and useful non-robust ones, which can be pictured.", _FEATURES, _c3),
    "C4": ("Features are consistent across architectures.", ("consistency",), _c4),
    "C5": ("Robust features have the largest eigenvalues and are learned early.", _FEATURES, _c5),
    "C6": (
        "The standard classifier relies on both kinds: the robustness-accuracy trade-off.",
        ("top_k", *_FEATURES),
        _c6,
    ),
    "C7": ("Under adversarial training the kernel becomes lazy earlier.", ("lazy_epochs", "dynamics_meta"), _c7),
    "C8": ("Under adversarial training the kernel concentrates more.", ("dynamics", "dynamics_meta"), _c8),
    "L1": (
        "The kernel of an adversarially trained network is robust even when fitted on clean images.",
        ("kernel_machines",),
        _l1,
    ),
}
