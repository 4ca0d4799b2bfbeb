"""How many users and seeds does a gain need? `make power PRESET=`, from the recorded runs of a preset's chapter 04."""

import argparse

import pandas as pd
from command import one_line
from presets import check_preset
from seqbook.reporting.main_tables import recorded, simulate_power
from seqdistill.io import UserError, outputs_dir

TIMES, TABLES = (1, 4), 100


def powers(preset: str, seen: str) -> tuple[str, pd.DataFrame]:
    """Share of synthetic tables in which a gain of the first student of 04 is found, by users and seeds, [%]."""
    comparison, ranked = recorded(outputs_dir(preset))
    table = simulate_power(ranked, comparison, seen, TABLES, TIMES)
    if table is None:
        raise UserError(f"power: 04 of {preset} has to train a student with a teacher with two seeds or more.")
    level, users = table["plain"].iloc[0], table["users"].min()
    table = table[table["gain"] > 0].assign(gain=table["gain"].map("{:>6.1%}".format))
    what = f"{next(iter(comparison.controls))}: plain NDCG@10 {level:.4f}, {users:,} users"
    return what, table.pivot_table("power", ["users", "seeds"], "gain")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seen", choices=["included", "excluded"], default="excluded")
    options = parser.parse_args()
    with one_line("power"):
        check_preset(options.preset)
        what, table = powers(options.preset, options.seen)
        print(f"{what} (seen items {options.seen}). Share of tables in which a true gain, in % of")
        print("plain, is found significant where the controls gain nothing:")
        print(table.map("{:.0%}".format).to_string())


if __name__ == "__main__":
    main()
