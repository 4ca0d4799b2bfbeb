"""What a preset's book found: the last lines of `make reproduce`."""

from pathlib import Path

import deploy
import pandas as pd
from pages import read_main
from seqdistill.io import display_path, load_json, outputs_dir
from times import times


def answer(table: pd.DataFrame, best: str = "", shares: dict[str, float] | None = None) -> str:
    """Say which system of a main table to deploy, which taught students gain, and what could have been seen.

    best: the student that `deploy.chosen` names. shares: of the users that a teacher taught, by variant.
    """
    plain = table[table["variant"] == "plain"].set_index("model")["ndcg@10"]
    taught, gains, first = deploy.taught(table), deploy.gains(table), f"deploy {best}: " if best else ""
    if best and (rival := better_rival(table, best)) is not None:
        span = f"{rival['delta_ndcg@10']:+.4f} [{rival['ci_low']:+.4f}, {rival['ci_high']:+.4f}]"
        first = f"deploy {rival['variant']}, which ranks better than {rival['baseline']} ({span}); "
        first += f"the best student is {best}: "
    if taught.empty:
        return f"{first}no student was taught."
    names = f" ({', '.join(gains['model'] + ' ' + gains['variant'])})" if len(gains) else ""
    detectable = taught[["detectable", "control_detectable"]].max(axis=1)  # both of two tests must succeed
    least = (detectable / taught["model"].map(plain)).min()
    heard = ", ".join(f"{variant} {share:.0%}" for variant, share in (shares or {}).items())
    return (
        f"{first}{len(gains)} of {len(taught)} taught students rank significantly better than both plain and their "
        f"control{names}; a gain in NDCG@10 below {least:.0%} of plain would often be missed (seen items excluded)"
        + f"; users who were taught: {heard}" * bool(heard)
        + "."
    )


def better_rival(table: pd.DataFrame, best: str) -> pd.Series | None:
    """Best of the rivals whose interval over the plain student is above zero and that rank better than `best`."""
    student = (table["model"] + " " + table["variant"]) == best
    rivals = table[table["model"] == "baseline"]
    over = rivals[(rivals["ci_low"] > 0) & (rivals["ndcg@10"] > table.loc[student, "ndcg@10"].max())]
    return None if over.empty else over.loc[over["ndcg@10"].idxmax()]


def exported(table: pd.DataFrame, best: str, path: Path) -> str:
    """Say which student `make export` writes, and which better rival it does not."""
    rival = better_rival(table, best)
    other = "" if rival is None else f"; {rival['variant']}, which ranks better, is not exported"
    return f"The best student, exported by make export: {display_path(path)} ({best}){other}"


def export(preset: str) -> str:
    """Write the student to deploy, and say which it is."""
    return exported(read_main(preset, "excluded"), *deploy.export(preset))


def print_summary(preset: str) -> None:
    """Print the answer, what to deploy, what to open, and how long the chapters took."""
    seconds, table, home = times(preset), read_main(preset, "excluded"), outputs_dir(preset)
    longest = sorted(((value, name) for name, value in seconds.items()), reverse=True)
    if not (home / "artifacts" / "student.json").exists():
        print(f"Answer: {answer(table)}")
    else:
        best, path = deploy.export(preset)
        print(f"Answer: {answer(table, best, deploy.taught_shares(home, deploy.taught(table)))}")
        print(exported(table, best, path))
        history = " ".join(load_json(path.with_name("student.json"))["item_ids"][:3])
        print(f"To serve {best}: .venv/bin/python {display_path(path.with_name('serve.py'))} {history}")
    whole = (home / "08-results.html").exists()
    page, more = ("08-results", "make book") if whole else ("04-distillation", "make reproduce, then make book, with")
    print(f"To read: {display_path(home / f'{page}.html')}; all chapters: {more} PRESET={preset}")
    parts = ", ".join(f"{name} {value / 60:.1f}" for value, name in longest[:3])
    print(f"Time: {sum(seconds.values()) / 60:.0f} minutes, most of them in {parts or 'no chapter'}")
