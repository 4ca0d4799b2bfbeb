"""Chapter 4's tables and figures from the ranks of its systems, which are all that `make tables` needs."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from seqdistill.evaluation.ranking import MISS, load_ranks, save_ranks
from seqdistill.evaluation.significance import by_user, compare
from seqdistill.io import load_json, save_json

from seqbook.power import components, power
from seqbook.reporting.figures import curves, forest, over_epochs

Ranked = dict[str, list[pd.DataFrame]]  # system -> per-case ranks, a frame a seed
GAINS, SEEDS = [0.0, 0.025, 0.05, 0.1, 0.15], [2, 3, 5, 10]  # of the power figure: true gains over plain, and seeds


@dataclass(frozen=True)
class Comparison:
    """Contents of a main table: systems named "<student> <variant>", or "baseline <name>".

    runs: system -> its folders in runs/, one per seed. against, controls: see `significance.compare`. single: each user
    has one test target. made_with: digest of events, settings and teacher. primary: whether seen items are included or
    excluded in the primary endpoint.
    """

    runs: dict[str, list[str]]
    against: dict[str, str]
    controls: dict[str, str]
    single: bool
    dataset: str
    protocol: str
    made_with: str
    primary: str = "excluded"

    @property
    def fixed(self) -> list[str]:
        """The systems that no seed changes."""
        return [system for system in self.runs if system.startswith("baseline")]


def record(comparison: Comparison, ranked: Ranked, home: Path) -> None:
    """Write tables/main-runs.json, and the ranks of the baselines beside those of the runs."""
    for system in comparison.fixed:
        (folder,) = comparison.runs[system]
        save_ranks(ranked[system][0], home / "runs" / folder / "ranks.parquet")
    ordered = {name: list(part.items()) for name, part in asdict(comparison).items() if isinstance(part, dict)}
    save_json(asdict(comparison) | ordered, home / "tables" / "main-runs.json")


def recorded(home: Path) -> tuple[Comparison, Ranked]:
    """Read what `record` wrote."""
    stored = load_json(home / "tables" / "main-runs.json")
    comparison = Comparison(**{name: dict(part) if isinstance(part, list) else part for name, part in stored.items()})
    paths = {name: [home / "runs" / key / "ranks.parquet" for key in keys] for name, keys in comparison.runs.items()}
    return comparison, {name: list(map(load_ranks, parts)) for name, parts in paths.items()}


def comparable(home: Path, other: Path) -> bool:
    """Whether the main table in another folder has the events, settings and teacher of this one, whatever its seeds."""
    paths = [folder / "tables" / "main-runs.json" for folder in (home, other)]
    return all(path.exists() for path in paths) and len({load_json(path)["made_with"] for path in paths}) == 1


def main_table(ranked: Ranked, comparison: Comparison) -> pd.DataFrame:
    """Compare all systems: on all targets and (if users have several) the last, seen items included and excluded."""
    parts = []
    for which in ("all", "last")[: 2 - comparison.single]:
        for seen in ("included", "excluded"):
            arms = comparison.against, seen, which == "last", comparison.controls, comparison.fixed
            table = compare(ranked, *arms)
            table[["model", "variant"]] = table["variant"].str.split(" ", n=1, expand=True).to_numpy()
            table["primary"] = (seen, which) == (comparison.primary, "all")
            parts.append(table.assign(dataset=comparison.dataset, protocol=f"{comparison.protocol}/{which}"))
    main, first = pd.concat(parts, ignore_index=True), ["dataset", "protocol", "model", "variant"]
    return main[first + [name for name in main if name not in first]]


def reading(main: pd.DataFrame, seen: str, which: str = "all") -> pd.DataFrame:
    """Rows of a main table with seen items included or excluded, on all targets or the last of each user."""
    return main[main["protocol"].str.endswith(f"/{which}") & (main["seen"] == seen)]


def seen_above(ranked: Ranked) -> pd.DataFrame:
    """Mean number of seen items above the target, and share of targets that enter the top ten without them."""
    rows = []
    for name, frames in ranked.items():
        cases = pd.concat(frames).query(f"rank_unseen < {MISS}")
        enters = (cases["rank_all"] > 10) & (cases["rank_unseen"] <= 10)
        rows.append((name, (cases["rank_all"] - cases["rank_unseen"]).mean(), enters.mean()))
    return pd.DataFrame(rows, columns=["variant", "above", "enters"])


def gains(main: pd.DataFrame, seen: str) -> tuple[Figure, pd.DataFrame]:
    """Draw the gain of every system over its plain student, all targets; also return the rows drawn."""
    rows = reading(main, seen).query("model != 'baseline'")
    rows = rows.assign(variant=rows["model"] + " " + rows["variant"])
    return forest(rows, f"Gain over the plain student, all targets, seen items {seen}"), rows


def learning(runs: dict[tuple[str, int], dict]) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the losses of runs, (system, seed) -> metrics, over epochs; and say where the student's own ends."""
    table = pd.DataFrame(
        {"model": system.split()[0], "variant": system.split()[1], "seed": seed, "epoch": epoch, **log}
        for (system, seed), run in runs.items()
        for epoch, log in enumerate(run["history"], 1)
    )
    titles = {"loss_model": "cross-entropy, nats", "loss_distil": "reconstruction (phase 1)"}
    titles = {name: title for name, title in titles.items() if name in table}
    figure = over_epochs(table, titles, "variant", "variant", "model", "mean over seeds, ± 1 std")
    ends = table[table["epoch"] == table.groupby("model")["epoch"].transform("max")]
    losses = ends.groupby(["model", "variant"], sort=False)["loss_model"].mean().items()
    said = ", ".join(f"{model} {variant} {loss:.4f}" for (model, variant), loss in losses)
    return figure, table, f"Cross-entropy after the last epoch: {said}."


def simulate_power(
    ranked: Ranked, comparison: Comparison, seen: str, tables: int, times: tuple[int, ...] = (1,)
) -> pd.DataFrame | None:
    """Chance that a true gain of the first taught student is significant, by users, seeds and gain (a share of plain).

    users: ours, multiplied by `times`. Variances are means over the differences of all taught forms of that student
    from plain and from their controls. Two columns are constant: `plain`, its NDCG@10, and `error`, how often a gain
    that the control shares is called significant with five seeds. None if there is one seed or no taught student.
    """
    first = next(iter(comparison.controls), "")
    if not first or len(ranked[first]) < 2:
        return None
    plain = comparison.against[first]
    forms = [(name, control) for name, control in comparison.controls.items() if comparison.against[name] == plain]
    gains = {name: [by_user(frame, seen)["ndcg@10"] for frame in frames] for name, frames in ranked.items()}
    level, users = float(np.mean([frame.mean() for frame in gains[plain]])), len(gains[plain][0])
    pairs = [(gains[name], gains[rival]) for name, control in forms for rival in (plain, control)]
    shared, spread = {"students": len(comparison.controls), "tables": tables}, components(*pairs)
    table = power(spread, [users * factor for factor in times], SEEDS, [share * level for share in GAINS], **shared)
    most = GAINS[-1] * level
    error = power(spread, [users], [5], [most], lift=most, **shared)["any"].iloc[0]
    return table.assign(gain=table["gain"] / level, plain=level, error=error)


def power_by_seeds(ranked: Ranked, comparison: Comparison, tables: int) -> tuple[Figure, pd.DataFrame, str] | None:
    """Draw `simulate_power` of the primary endpoint by seeds; None if there is nothing to simulate."""
    table = simulate_power(ranked, comparison, comparison.primary, tables)
    if table is None:
        return None
    plain, error = comparison.against[next(iter(comparison.controls))], table["error"].iloc[0]
    table = table.drop(columns=["plain", "error"]).assign(gain=100 * table["gain"], seeds=table["seeds"].astype(str))
    title = f"Power, {table['users'].iloc[0]:,} users, seen items {comparison.primary}"
    labelled = table.assign(seeds=table["seeds"] + " seeds")
    figure = curves(labelled, "gain", "power", "seeds", title, "true gain, % of plain", "power")
    five = table[(table["seeds"] == "5") & np.isclose(table["gain"], 10)].squeeze()
    text = f"{plain}, five seeds: a true gain of {five['gain']:.0f} % is significant in {five['power']:.0%} of tables. "
    return figure, table, text + f"Errors if the control gains as much: {error:.1%}."
