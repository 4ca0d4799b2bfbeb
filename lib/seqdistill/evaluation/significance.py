"""Is a difference real? Ranks -> tables with tests over users and seeds, Holm's correction and a verdict."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from seqdistill.evaluation.ranking import RANK_COLUMN
from seqdistill.io import UserError

LEVEL, POWER = 0.05, 0.8
SHOWN = ["recall@10", "ndcg@10"]
TESTED = ["delta", "error", "df", "ci_low", "ci_high", "p", "effect", "detectable"]
Spread = tuple[float, float]  # variance of a difference over training seeds, and its degrees of freedom


def by_user(ranks: pd.DataFrame, seen: str) -> pd.DataFrame:
    """Recall@10 and NDCG@10 per user, means over the user's cases: every user weighs the same."""
    rank = ranks[RANK_COLUMN[seen]]
    gains = pd.DataFrame({"recall@10": (rank <= 10).astype(float), "ndcg@10": (rank <= 10) / np.log2(rank + 1)})
    return gains.groupby(ranks["user"]).mean()


def differences(variant: list[pd.Series], baseline: list[pd.Series]) -> list[pd.Series]:
    """Differences of two systems' values by user, seed by seed: runs of one seed share initial weights and batches.

    A system with one run is compared with every run of the other. Seeds without a user are left out.
    """
    runs = max(len(variant), len(baseline))
    pairs = [values * runs if len(values) == 1 else values for values in (variant, baseline)]
    if len(pairs[0]) != len(pairs[1]) or not all(a.index.equals(b.index) for a, b in zip(*pairs, strict=True)):
        raise UserError("compare: two systems were scored on different users, or trained with different seeds.")
    return [a - b for a, b in zip(*pairs, strict=True) if len(a)]


def over_seeds(values: list[pd.Series]) -> pd.Series:
    """Mean over seeds by user, of the seeds that have the user; no seed has a user twice, or NaN."""
    index = values[0].index
    if all(index.equals(one.index) for one in values):  # the usual case; aligning takes most of a test's time
        return pd.Series(np.mean([one.to_numpy() for one in values], axis=0), index)
    return pd.concat(values, axis=1).mean(axis=1)


def pooled(arms: list[list[pd.Series]]) -> Spread | None:
    """Pool the variance over seeds of the mean differences of several arms to one baseline; None with a single seed.

    The arms share the runs of the baseline, so their differences have a correlation of 1/2; the degrees of freedom are
    those of a mean of variances that are correlated accordingly.
    """
    means = [[one.mean() for one in arm] for arm in arms if len(arm) > 1]
    if not means:
        return None
    freedom = sum(len(arm) - 1 for arm in means) / (1 + (len(means) - 1) / 4)
    return float(np.mean([np.var(arm, ddof=1) for arm in means])), freedom


def paired(
    parts: list[pd.Series], spread: Spread | None = None, tests: int = 1, power: float = POWER
) -> dict[str, float]:
    """Test the differences of two systems by user, one series a training seed, against zero.

    Users and seeds are both samples. The variance of the mean is that over users (of their means over seeds) plus that
    over seeds, the larger of `spread` (pooled) and the parts' own. The t-test uses Welch-Satterthwaite degrees of
    freedom.

    Returns `TESTED`: delta (mean over users), its standard error and df, ci_low and ci_high (95 %), p (two-sided),
    effect (Cohen's d of the users' differences) and detectable: the smallest true difference that is significant with
    probability `power`, at the 5 % level for all `tests` together (Bonferroni). All but delta are NaN with one user,
    and if all users have the same nonzero difference.
    """
    users = over_seeds(parts)
    delta, deviation = float(users.mean()), users.std()
    if len(users) < 2 or (delta and deviation < 1e-12 * abs(delta)):  # equal but for rounding
        return dict.fromkeys(TESTED, np.nan) | {"delta": delta}
    variances, freedom = [deviation**2 / len(users)], [len(users) - 1]
    if spread := max(filter(None, (spread, pooled([parts]))), default=None):
        variances.append(spread[0] / len(parts))
        freedom.append(spread[1])
    error, df = np.sqrt(sum(variances)), float(freedom[0])
    if error:
        df = sum(variances) ** 2 / sum(part**2 / one for part, one in zip(variances, freedom, strict=True))
    t, family, chance = stats.t.ppf([1 - LEVEL / 2, 1 - LEVEL / tests / 2, power], df)
    p = 2 * stats.t.sf(abs(delta) / error, df) if error else float(delta == 0)
    effect = delta / deviation if deviation else 0.0
    values = (delta, error, df, delta - t * error, delta + t * error, p, effect, (family + chance) * error)
    return dict(zip(TESTED, map(float, values), strict=True))


def holm(p: pd.Series | np.ndarray) -> np.ndarray:
    """Adjust p-values for their number (Holm, 1979); NaN stays NaN and does not count."""
    p, adjusted = np.asarray(p, float), np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN comes last
    steps = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare(
    ranks: dict[str, list[pd.DataFrame]], against: dict[str, str], seen: str, last: bool,
    controls: dict[str, str] | None = None, fixed: Collection[str] = (),
    groups: dict[str, list[np.ndarray]] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Compare systems (system -> per-case ranks, one frame per seed) with baselines and controls, on the same users.

    against: system -> its baseline. controls: system -> its control, the same without knowledge. seen: "included" or
    "excluded". last: use only each user's last target. fixed: systems that no seed changes. groups: group -> the cases
    in it, one mask per seed; systems are compared within (seed, user), and all groups are adjusted together.

    Returns one row per system (and group): means over users of Recall@10 and NDCG@10 and their std over seeds; what
    `paired` says of the difference to `baseline`, upper_share (the interval's upper end as a share of the baseline) and
    what `decide` adds; with controls, the same against them as control_*. With groups, `cases` is the sum over seeds.
    UserError if systems differ in users or seeds, or if no case falls into a group.
    """
    parts = []
    for group, masks in (groups or {"": None}).items():
        if masks and not any(mark.any() for mark in masks):
            raise UserError("cold: no test case of any seed falls into a group; take more seeds, or a larger share.")
        users, rows = {}, []
        for name, frames in ranks.items():
            if masks:
                frames = [frame[mark] for frame, mark in zip(frames, masks, strict=True)]
            if last:
                frames = [frame.sort_values("position").drop_duplicates("user", keep="last") for frame in frames]
            users[name] = [by_user(frame, seen) for frame in frames]
            averaged = pd.concat(users[name]).groupby(level=0).mean()
            values = pd.DataFrame([seed.mean() for seed in users[name]])
            row = {"variant": name, "seen": seen, "seeds": len(values)}
            row["cases"] = sum(map(len, frames)) if masks else len(frames[0])
            row |= {"group": group, "users": len(averaged)} if masks else {}
            for metric in SHOWN:
                row |= {metric: averaged[metric].mean(), f"{metric}_std": values[metric].std(ddof=1)}
            rows.append(row)
        gains = {name: [seed["ndcg@10"] for seed in seeds] for name, seeds in users.items()}
        tested = assess(gains, against, controls, fixed, len(groups or [0]))
        parts.append(pd.concat([pd.DataFrame(rows), tested], axis=1))
    return decide(pd.concat(parts, ignore_index=True))


def assess(
    gains: dict[str, list[pd.Series]], against: dict[str, str], controls: dict[str, str] | None,
    fixed: Collection[str] = (), tables: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Test systems, given as NDCG@10 by user, one series per seed, against baselines and controls (see `compare`).

    Returns a row per system, in their order, for `decide`; tables: how many such tables are adjusted together.
    """
    family = {*(controls or (name for name, rival in against.items() if name not in fixed or rival in fixed))}
    trained = {*controls, *controls.values()} if controls else {*against} - {*fixed}
    arms = {name: rival for name, rival in against.items() if name in trained}
    tests, rows = {"": against} | ({} if controls is None else {"control_": controls}), []
    pairs = {pair for rivals in tests.values() for pair in rivals.items() if pair[0] in gains}
    parts = {pair: differences(*map(gains.get, pair)) for pair in pairs}
    levels = {rival: over_seeds(gains[rival]).mean() for rival in {rival for _, rival in pairs}}
    spreads = {prefix: spreads_of(gains, parts, rivals, arms) for prefix, rivals in tests.items()}
    for name in gains:
        row: dict[str, object] = {"family": name in family}
        for prefix, rivals in tests.items():
            rival, found = rivals.get(name, ""), dict.fromkeys([*TESTED[:6], "upper_share", *TESTED[6:]], np.nan)
            row[prefix.rstrip("_") or "baseline"] = rival
            if rival:
                spread = spreads[prefix].get(arms.get(name))
                power = POWER ** (1 / 2 if controls and name in controls else 1)  # both of two tests must succeed
                count = tables * max(1, len(family))
                found |= paired(parts[name, rival], spread, count, power) | {"upper_share": levels[rival]}
            both = [gains[one] for one in {name, rival} - {"", *fixed}]
            found["once"] = any(sum(len(seed) > 0 for seed in seeds) == 1 for seeds in both)
            row |= {f"{prefix}{part}": value for part, value in found.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def spreads_of(
    gains: dict[str, list[pd.Series]], parts: dict[tuple[str, str], list[pd.Series]], rivals: dict[str, str],
    student: dict[str, str],
) -> dict[str, Spread | None]:  # fmt: skip
    """Pool the variance over seeds of the differences to `rivals`, for each `student` (the baseline of a system)."""
    arms: dict[str, list[list[pd.Series]]] = {}
    for name, rival in rivals.items():
        if name in student and len(gains[name]) == len(gains[rival]):
            arms.setdefault(student[name], []).append(parts[name, rival])
    return {name: pooled(differences) for name, differences in arms.items()}


def judge(tested: Mapping[str, np.ndarray], prefixes: list[str]) -> dict[str, np.ndarray]:
    """Adjusted p-values, intervals and verdicts of a table by `assess`, given as columns [n]; see `decide`.

    prefixes: of the columns of each test, that against the control before that against the baseline.
    """
    larger = np.fmax.reduce([tested[f"{prefix}p"] for prefix in prefixes])
    if len(prefixes) > 1:
        larger = np.where(tested["control_delta"] <= 0, 1.0, larger)
    p = np.where(tested["family"], np.where(tested["delta"] < 0, tested["p"], larger), np.nan)
    adjusted, known = holm(p), ~np.isnan(p)
    steps = np.full(len(p), np.nan)
    steps[np.argsort(p, kind="stable")[: known.sum()]] = LEVEL / np.arange(known.sum(), 0, -1)
    steps = np.minimum(steps, steps[p > steps].min(initial=LEVEL))  # after Holm has stopped, the step at which it did
    level = np.where(known, steps, LEVEL)
    once = np.any([tested[f"{prefix}once"] for prefix in prefixes], axis=0)
    found, gain = {"p_holm": adjusted}, True
    for prefix in prefixes:
        delta = tested[f"{prefix}delta"]
        margin = stats.t.ppf(1 - level / 2, tested[f"{prefix}df"]) * tested[f"{prefix}error"]
        low, high = delta - margin, delta + margin
        gain = gain & ((low > 0) | np.isnan(low))  # over the control; in the end over both
        enough = True if prefix else adjusted < LEVEL
        words = np.select(
            [gain & enough, (high < 0) & enough], ["significant gain", "significant loss"], "inconclusive"
        )
        words = np.where(once, "one seed", words)
        found |= {f"{prefix}ci_low": low, f"{prefix}ci_high": high}
        found[f"{prefix}verdict"] = np.where(known & ~np.isnan(delta), words, "")
    return found


def decide(table: pd.DataFrame) -> pd.DataFrame:
    """Give each system of the family one p-value, adjust them (Holm), and add verdicts.

    A system must rank better than its baseline and than its control, if it has one. Its p is the larger of the two
    (intersection-union test; Berger, 1982), or 1 if it is above the baseline but not above the control. Its intervals
    are adjusted like its p (after Holm has stopped, by the step at which it stopped). A gain is significant if both
    exclude zero; a loss is judged against the baseline alone. The family is the systems with a control, if there are
    any. The others, and fixed systems beside trained ones, have 95 % intervals without a verdict. A system with one
    training run gets no verdict either ("one seed").
    """
    prefixes = ["control_", ""] if "control" in table else [""]
    found = judge({name: table[name].to_numpy() for name in table}, prefixes)
    for prefix in prefixes:
        low, high = (f"{prefix}ci_{end}" for end in ("low", "high"))
        level = table[f"{prefix}upper_share"].replace(0, np.nan)
        table = table.assign(**{low: found[low], high: found[high], f"{prefix}upper_share": found[high] / level})
        place = table.columns.get_loc(f"{prefix}upper_share") + 1
        table.insert(place, f"{prefix}verdict", found[f"{prefix}verdict"])
    table.insert(table.columns.get_loc("verdict"), "p_holm", found["p_holm"])
    dropped = [f"{prefix}{name}" for prefix in prefixes for name in ("p", "once", "error", "df")]
    names = {f"{prefix}delta": f"{prefix}delta_ndcg@10" for prefix in prefixes}
    return table.drop(columns=[*dropped, "family"]).rename(columns=names)
