"""From a preset's recorded runs, without its data: 04's tables and figures (`make tables`), power (`make power`)."""

import pandas as pd
from presets import values_of
from seqbook.reporting import main_tables, report
from seqbook.reporting.main_tables import recorded
from seqdistill.io import UserError, display_path, load_json, outputs_dir, save_csv

TIMES, TABLES = (1, 4), 100  # users of the simulated tables, as multiples of those at hand; tables


def remake(preset: str) -> list[str]:
    """Write main.csv, seen.csv and power.csv and the figures `main`, `learning` and `power`; say which."""
    home = outputs_dir(preset)
    comparison, ranked = recorded(home)
    main, logs = main_tables.main_table(ranked, comparison), {}
    for system in (name for name in comparison.runs if name not in comparison.fixed):
        runs = (load_json(home / "runs" / key / "metrics.json") for key in comparison.runs[system])
        logs |= {(system, run["config"]["seed"]): run for run in runs}
    tables = {"main": main, "seen": main_tables.seen_above(ranked)}
    figures = {"main": main_tables.gains(main, comparison.primary), "learning": main_tables.learning(logs)[:2]}
    for old in [home / "tables" / "power.csv", *(home / "figures").glob("power.*")]:
        old.unlink(missing_ok=True)
    tested = values_of(preset, "04-distillation")["power_tables"]
    if power := main_tables.power_by_seeds(ranked, comparison, tested):  # None with one seed
        tables["power"], figures["power"] = power[1], power[:2]
    for name, table in tables.items():
        save_csv(table, home / "tables" / f"{name}.csv")
    for name, (figure, numbers) in figures.items():
        report.save_figure(figure, numbers, home / "figures" / f"{name}.png")
    return [*(f"tables/{name}.csv" for name in tables), *(f"figures/{name}.png" for name in figures)]


def print_tables(preset: str) -> None:
    """Make the tables and figures, and name them."""
    report.style()
    print(f"{display_path(outputs_dir(preset))}: {', '.join(remake(preset))}")


def powers(preset: str) -> tuple[str, pd.DataFrame]:
    """Share of synthetic tables in which a gain of the first student of 04 is found, by users and seeds, [%]."""
    comparison, ranked = recorded(outputs_dir(preset))
    table = main_tables.simulate_power(ranked, comparison, "excluded", TABLES, TIMES)
    if table is None:
        raise UserError(f"power: 04 of {preset} has to train a student with a teacher with two seeds or more.")
    level, users = table["plain"].iloc[0], table["users"].min()
    table = table[table["gain"] > 0].assign(gain=table["gain"].map("{:>6.1%}".format))
    what = f"{next(iter(comparison.controls))}: plain NDCG@10 {level:.4f}, {users:,} users"
    return what, table.pivot_table("power", ["users", "seeds"], "gain")


def print_power(preset: str) -> None:
    """Print how many users and seeds a gain needs."""
    what, table = powers(preset)
    print(f"{what} (seen items excluded). Share of tables in which a true gain, in % of")
    print("plain, is found significant where the controls gain nothing:")
    print(table.map("{:.0%}".format).to_string())
