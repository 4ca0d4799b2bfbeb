"""Is a difference real? Ranks -> tables with paired tests over users, Holm's correction and a verdict."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy import stats

from seqdistill.evaluation.ranking import RANK_COLUMN
from seqdistill.io import UserError

RESAMPLES = 9_999
LEVEL, POWER = 0.05, 0.8
SHOWN = ["recall@10", "ndcg@10"]
TESTED = ["delta", "ci_low", "ci_high", "p", "effect", "detectable"]


def by_user(ranks: pd.DataFrame, seen: str) -> pd.DataFrame:
    """Recall@10 and NDCG@10 per user, means over the user's cases: every user weighs the same."""
    rank = ranks[RANK_COLUMN[seen]]
    gains = pd.DataFrame({"recall@10": (rank <= 10).astype(float), "ndcg@10": (rank <= 10) / np.log2(rank + 1)})
    return gains.groupby(ranks["user"]).mean()


def paired(variant: list[pd.Series], baseline: list[pd.Series], tests: int = 1) -> dict[str, float]:
    """Compare two systems on the same users, each given as one series of values per training seed.

    Users are resampled in pairs, each system's training seeds by themselves (the deviations of their means, widened by
    n / (n - 1) in variance); the two add up, and are widened once more for the few seeds that the spread was read from
    (Student's t with Welch-Satterthwaite degrees of freedom over the normal). A system of one seed adds nothing.

    Returns:
        delta (mean difference), ci_low and ci_high (95 % percentile bootstrap), p (two-sided: the larger of a sign-flip
        randomisation test over users and, with several seeds, a t-test over users and seeds), effect (Cohen's d of the
        users' differences) and detectable (the smallest true difference that a test at the 5 % level of all `tests`
        together (Bonferroni) would show four times in five); all but delta are NaN where there is a single user.
    """
    a, b = (sum(values) / len(values) for values in (variant, baseline))
    if not a.index.equals(b.index):
        raise UserError("paired: the systems were scored on different users.")
    difference = (a - b).to_numpy()
    if len(difference) < 2:
        return {"delta": float(difference.mean())} | dict.fromkeys(TESTED[1:], np.nan)
    rng, resampling = np.random.default_rng(0), {"n_resamples": RESAMPLES, "batch": 500}
    drawn = stats.bootstrap((difference,), np.mean, method="percentile", rng=rng, **resampling).bootstrap_distribution
    test = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", vectorized=True, rng=rng, **resampling
    )
    mean, spread = difference.mean(), difference.std(ddof=1)
    variances, freedom, p = [spread**2 / len(difference)], [len(difference) - 1], test.pvalue
    for sign, values in ((1, variant), (-1, baseline)):
        if (n := len(values)) > 1:
            means = np.array([one.mean() for one in values])
            again = rng.choice(means, (RESAMPLES, n)).mean(1) - means.mean()
            drawn = drawn + sign * again * np.sqrt(n / (n - 1))
            variances.append(means.var(ddof=1) / n)
            freedom.append(n - 1)
    error, few = np.sqrt(sum(variances)), 1.0
    if len(variances) > 1 and error:
        df = sum(variances) ** 2 / sum(part**2 / one for part, one in zip(variances, freedom, strict=True))
        few = stats.t.ppf(1 - LEVEL / 2, df) / stats.norm.ppf(1 - LEVEL / 2)
        p = max(p, 2 * stats.t.sf(abs(mean) / error, df))
    low, high = mean + few * (np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2]) - mean)
    normal = stats.norm.ppf(1 - LEVEL / tests / 2) + stats.norm.ppf(POWER)
    values = (mean, low, high, p, mean / spread if spread else 0.0, few * normal * error)
    return dict(zip(TESTED, map(float, values), strict=True))


def holm(p: pd.Series) -> pd.Series:
    """Adjust p-values for their number (Holm, 1979); NaN stays NaN and does not count."""
    known = p.dropna().sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    return (known * factors).cummax().clip(upper=1.0).reindex(p.index)


def by_seed(variant: list[pd.Series], baseline: list[pd.Series]) -> list[pd.Series]:
    """Differences of two systems whose users differ from seed to seed, as one series a seed of the same users.

    Each is the user's mean over the seeds in which the user counts, moved to where the seed's own mean stands: so their
    mean is the user's, and their spread that of the seeds.
    """
    if not all(a.index.equals(b.index) for a, b in zip(variant, baseline, strict=True)):
        raise UserError("compare: two systems were scored on different cases.")
    parts = [a - b for a, b in zip(variant, baseline, strict=True)]
    difference = pd.concat(parts, keys=range(len(parts)), names=["seed", "user"])
    users, seeds = (difference.groupby(level).mean() for level in ("user", "seed"))
    return [users + gap for gap in seeds - seeds.mean()]


def compare(
    ranks: dict[str, list[pd.DataFrame]],
    against: dict[str, str],
    seen: str,
    last: bool,
    controls: dict[str, str] | None = None,
    fixed: Collection[str] = (),
    groups: dict[str, list[np.ndarray]] | None = None,
) -> pd.DataFrame:
    """Set systems beside their baselines, and beside their controls, on the same users.

    Args:
        ranks: system -> per-case ranks, one frame per seed.
        against, controls: system -> the system that it is tested against; its control, the same without knowledge.
        seen, last: "included" or "excluded", are seen items candidates? each user's last target alone, or all of them?
        fixed: systems that no seed changes, so that one run of them says all.
        groups: group -> the cases that count, one mask per seed. A user counts in the seeds in which one of their cases
            does; two systems are compared within (seed, user); groups are adjusted together.

    Returns:
        One row per system (and group): means over users of Recall@10 and NDCG@10 and their std over seeds; the
        difference to `baseline` with its interval, p_holm (over all tests of the table), verdict, effect and detectable
        (see `paired`); with controls the same as control_*; with groups, `cases` is the sum over seeds.
    """
    rivals = {"": against} | ({"control_": controls} if controls else {})
    tests, rows = len(groups or [0]) * sum(map(len, rivals.values())), []
    for group, masks in (groups or {"": None}).items():
        if masks and not any(mark.any() for mark in masks):
            raise UserError("cold: no test case of any seed falls into a group; take more seeds, or a larger share.")
        users, cases = {}, {}
        for name, frames in ranks.items():
            if masks:
                frames = [frame[mark] for frame, mark in zip(frames, masks, strict=True)]
            if last:
                ends = [frame.groupby("user")["position"].transform("max") for frame in frames]
                frames = [frame[frame["position"] == end] for frame, end in zip(frames, ends, strict=True)]
            users[name] = [by_user(frame, seen) for frame in frames]
            cases[name] = sum(map(len, frames)) if masks else len(frames[0])
        for name, seeds in users.items():
            if masks:
                pooled = pd.concat(seeds, keys=range(len(seeds)), names=["seed", "user"])
                values, averaged = (pooled.groupby(level).mean() for level in ("seed", "user"))
            else:
                values = averaged = pd.DataFrame([seed.mean() for seed in seeds])
            row = {"variant": name, "seen": seen, "seeds": len(values), "cases": cases[name]}
            row |= {"group": group, "users": len(averaged)} if masks else {}
            for metric in SHOWN:
                row |= {metric: averaged[metric].mean(), f"{metric}_std": values[metric].std(ddof=1)}
            for prefix, chosen in rivals.items():
                rival, test = chosen.get(name, ""), dict.fromkeys(TESTED, np.nan)
                if rival:
                    pair = [[seed["ndcg@10"] for seed in users[system]] for system in (name, rival)]
                    if masks:
                        differences = by_seed(*pair)
                        pair = [differences, [0 * differences[0]]]
                    test = paired(*pair, tests)
                trained = {name, rival} - {"", *fixed}
                once = any(sum(len(seed) > 0 for seed in users[system]) == 1 for system in trained)
                row |= {prefix.rstrip("_") or "baseline": rival, f"{prefix}once": once}
                row |= {f"{prefix}{name}": value for name, value in test.items()}
            rows.append(row)
    table = pd.DataFrame(rows).rename(columns={f"{prefix}delta": f"{prefix}delta_ndcg@10" for prefix in rivals})
    return adjust_pvalues(table, list(rivals))


def adjust_pvalues(table: pd.DataFrame, prefixes: list[str]) -> pd.DataFrame:
    """Replace the columns p and once by p_holm, corrected for all tests of the table, and a verdict."""
    adjusted = holm(pd.concat({prefix: table[f"{prefix}p"] for prefix in prefixes}))
    for prefix in prefixes:
        at = table.columns.get_loc(f"{prefix}p")
        table.insert(at, f"{prefix}p_holm", adjusted[prefix])
        table.insert(at + 1, f"{prefix}verdict", [verdict(row, prefix) for row in table.to_dict("records")])
    return table.drop(columns=[f"{prefix}{name}" for prefix in prefixes for name in ("p", "once")])


def verdict(row: dict, prefix: str) -> str:
    """Word of a comparison: the interval must leave zero out and the corrected p be below .05, else "inconclusive".

    A system that was trained with one seed gets no verdict: another seed could tell another story.
    """
    if np.isnan(row[f"{prefix}delta_ndcg@10"]):
        return ""
    if row[f"{prefix}once"]:
        return "one seed"
    if row[f"{prefix}p_holm"] < LEVEL and row[f"{prefix}ci_low"] > 0:
        return "significant gain"
    return "significant loss" if row[f"{prefix}p_holm"] < LEVEL and row[f"{prefix}ci_high"] < 0 else "inconclusive"
