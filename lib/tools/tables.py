"""Chapter 04's tables and figures from a preset's recorded runs, without its data: `make tables PRESET=`."""

import argparse

from book import alone
from command import one_line
from presets import check_preset, values_of
from seqbook.reporting import report
from seqbook.reporting.main_tables import gains, learning, main_table, power_by_seeds, recorded, seen_above
from seqdistill.io import display_path, load_json, outputs_dir, save_csv


def remake(preset: str) -> list[str]:
    """Write main.csv, seen.csv and power.csv and the figures `main`, `learning` and `power`; say which."""
    home = outputs_dir(preset)
    comparison, ranked = recorded(home)
    main = main_table(ranked, comparison)
    trained = {system: keys for system, keys in comparison.runs.items() if system not in comparison.fixed}
    runs = {
        system: [load_json(home / "runs" / key / "metrics.json") for key in keys] for system, keys in trained.items()
    }
    logs = {(system, run["config"]["seed"]): run for system, seeds in runs.items() for run in seeds}
    power = power_by_seeds(ranked, comparison, values_of(preset, "04-distillation")["power_tables"])
    tables = {"main": main, "seen": seen_above(ranked)} | ({"power": power[1]} if power else {})
    figures = {"main": gains(main, comparison.primary), "learning": learning(logs)[:2]}
    figures |= {"power": power[:2]} if power else {}
    if not power:
        for old in [home / "tables" / "power.csv", *(home / "figures").glob("power.*")]:
            old.unlink(missing_ok=True)
    for name, table in tables.items():
        save_csv(table, home / "tables" / f"{name}.csv")
    for name, (figure, numbers) in figures.items():
        report.save_figure(figure, numbers, home / "figures" / f"{name}.png")
    return [*(f"tables/{name}.csv" for name in tables), *(f"figures/{name}.png" for name in figures)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="default")
    preset = parser.parse_args().preset
    with one_line("tables"), alone(preset):
        check_preset(preset)
        report.style()
        print(f"{display_path(outputs_dir(preset))}: {', '.join(remake(preset))}")


if __name__ == "__main__":
    main()
