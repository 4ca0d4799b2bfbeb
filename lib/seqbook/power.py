"""How many seeds does it take? Synthetic tables with the variances of real ones, tested as real ones are."""

from itertools import chain, product

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from seqdistill.evaluation.significance import assess, differences, judge


def components(*pairs: tuple[list[pd.Series], list[pd.Series]]) -> dict[str, float]:
    """Standard deviations of differences between two systems by user (one series per seed): users, seeds, residual.

    Estimated as in a two-way layout without replication; variances are averaged over pairs of systems, since one pair
    with few seeds often shows none over seeds. At least two seeds are needed.
    """
    variances = []
    for variant, baseline in pairs:
        table = pd.concat(differences(variant, baseline), axis=1).to_numpy()  # [U, S]
        users, seeds = table.shape
        by_user, by_seed, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
        rest = ((table - by_user - by_seed + mean) ** 2).sum() / ((users - 1) * (seeds - 1))
        variances.append([by_user.var(ddof=1) - rest / seeds, by_seed.var(ddof=1) - rest / users, rest])
    return dict(zip(["user_sd", "seed_sd", "rest_sd"], np.sqrt(np.maximum(np.mean(variances, 0), 0)), strict=True))


def synthetic(
    rng: np.random.Generator, spread: dict[str, float], users: int, seeds: int, gain: float, lift: float, students: int
) -> dict[str, list[pd.Series]]:
    """Draw plain, taught students (true gain `gain`) and controls (true gain `lift`): system -> one series per seed."""
    half = np.sqrt(0.5)  # a difference has the variance of two systems

    def system(mean: float) -> list[pd.Series]:
        fixed = mean + half * spread["user_sd"] * rng.standard_normal(users)
        shifts = half * spread["seed_sd"] * rng.standard_normal(seeds)
        return [pd.Series(fixed + shift + half * spread["rest_sd"] * rng.standard_normal(users)) for shift in shifts]

    drawn = {"plain": system(0.0)}
    for student in range(students):
        drawn |= {f"taught {student}": system(gain), f"control {student}": system(lift)}
    return drawn


def raised(tested: dict[str, np.ndarray], gain: float) -> dict[str, np.ndarray]:
    """Add `gain` to the taught systems (with a control) of a table by `assess`: delta and p, which `judge` reads."""
    columns, taught = dict(tested), tested["control"] != ""
    for prefix in ("", "control_"):
        delta, error = tested[f"{prefix}delta"] + gain * taught, tested[f"{prefix}error"]
        p = 2 * stats.t.sf(np.abs(delta) / np.where(error > 0, error, np.nan), tested[f"{prefix}df"])
        columns |= {f"{prefix}delta": delta, f"{prefix}p": np.where(error == 0, delta == 0, p)}
    return columns


def shares(
    spread: dict[str, float], users: int, seeds: int, gains: list[float], lift: float, students: int, tables: int
) -> list[tuple]:
    """Rows of `power` for one number of users and of seeds; all gains are tested on the same synthetic tables."""
    against = {f"{kind} {number}": "plain" for number in range(students) for kind in ("taught", "control")}
    controls = {f"taught {number}": f"control {number}" for number in range(students)}
    rng, found = np.random.default_rng(0), np.zeros((len(gains), tables, students), bool)
    for number in range(tables):
        table = assess(synthetic(rng, spread, users, seeds, 0.0, lift, students), against, controls)
        tested = {name: table[name].to_numpy() for name in table}
        for place, gain in enumerate(gains):
            verdicts = judge(raised(tested, gain), ["control_", ""])["verdict"]
            found[place, number] = (verdicts == "significant gain")[1::2]
    hits = zip(gains, found[:, :, 0].mean(1), found.any(2).mean(1), strict=True)
    return [(users, seeds, *row) for row in hits]


def power(
    spread: dict[str, float], users: list[int], seeds: list[int], gains: list[float], lift: float = 0.0,
    students: int = 2, tables: int = 200,
) -> pd.DataFrame:  # fmt: skip
    """Share of synthetic tables in which the first taught student gains significantly, and in which any does.

    spread: see `components`. gains: true NDCG@10 gains of all taught students over plain; lift: that of their controls.
    If a gain is at most `lift`, `any` is the type I error, largest if both are equal and large.
    """
    kinds = list(product(users, seeds))
    jobs = (delayed(shares)(spread, *kind, gains, lift, students, tables) for kind in kinds)
    rows = Parallel(n_jobs=-1 if tables * len(kinds) > 200 else 1)(jobs)  # fewer take less time than new processes
    return pd.DataFrame(chain.from_iterable(rows), columns=["users", "seeds", "gain", "power", "any"])
