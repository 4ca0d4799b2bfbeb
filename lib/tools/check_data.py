"""Check a data set and print its statistics; convert it into processed tables: `make data`, `make data-check`."""

import argparse
from pathlib import Path

import pandas as pd
from command import one_line
from seqbook.reporting.report import paper
from seqdistill import data
from seqdistill.data.store import LAYOUTS
from seqdistill.io import UserError, data_dir, display_path

COLUMNS = {"users": ",.0f", "items": ",.0f", "interactions": ",.0f", "avg_per_user": ".3f", "density": ".4%"}
MINIMUM = 5  # events of a user and of an item


def summary(every: data.Dataset) -> list[str]:
    """Share of rated events, span of times, and statistics of all events, of both filters and of the paper."""
    lines, rows = [f"  {every.events['value'].notna().mean():.0%} of the events are rated"], {}
    if every.dated:
        first, last = (pd.to_datetime(moment, unit="s") for moment in every.events["time"].agg(["min", "max"]))
        lines.append(f"  times from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}; is the unit right?")
    rows["all events"] = data.statistics(every.events)
    for kind, words in (("core", f"{MINIMUM}-core"), ("single", f"{MINIMUM} or more, one pass")):
        try:
            rows[words] = data.statistics(data.load(every.name, MINIMUM, kind=kind).events)
        except UserError as nothing:
            lines.append(f"  {words}: {nothing}")
    theirs = paper("data").set_index("dataset")
    if every.name in theirs.index:
        row = theirs.loc[every.name]
        rows["paper"] = {**row, "density": row["interactions"] / (row["users"] * row["items"])}
    forms = {name: ("{:" + form + "}").format for name, form in COLUMNS.items()}
    return [*lines, pd.DataFrame(rows).T[[*COLUMNS]].to_string(formatters=forms)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["check", "convert"])
    parser.add_argument("name")
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    with one_line("data"):
        if not options.name:
            raise UserError(f"DATASET= names a data set: {', '.join(LAYOUTS)}, or a folder in data/.")
        if options.action == "convert":
            data.convert(options.name, options.raw, options.force)
            print(f"written: {display_path(data_dir() / options.name / 'processed')}")
        every = data.load(options.name, 1)
        print(f"{every.name}: order by {'time' if every.dated else 'position, no times'}")
        print(*(f"  {note}" for note in every.notes[:-1]), *summary(every), sep="\n")


if __name__ == "__main__":
    main()
