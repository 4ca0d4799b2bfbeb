"""How many users and seeds does a gain need? `make power PRESET=`, from the runs of a preset's chapter 04."""

import argparse

import pandas as pd
from command import one_line
from deploy import taught as taught_rows
from pages import read_main
from presets import check_preset
from seqdistill.evaluation.power import components, power
from seqdistill.evaluation.significance import by_user
from seqdistill.io import UserError, load_json, outputs_dir
from seqdistill.training.ablation import setups
from seqdistill.training.sweep import plan, ranks, run_folder
from seqdistill.training.train import load_training_data

SEEDS, GAINS, TIMES, TABLES = [2, 3, 5, 10], [0.025, 0.05, 0.1, 0.15], [1, 4], 100


def powers(preset: str, seen: str) -> tuple[str, pd.DataFrame]:
    """Share of synthetic tables in which a gain of the first student of 04 is found, by users and seeds, [%]."""
    home = outputs_dir(preset)
    seeds = load_json(home / "artifacts" / "student.json")["seeds"]
    first, *_ = setups(home, load_training_data(home / "artifacts"), "", seeds, "loky", {})
    jobs = plan({name: first.runs[name] for name in ("plain", "distilled-student")}, seeds, first.data)
    if len(seeds) < 2 or not all((run_folder(job, home / "runs") / "metrics.json").exists() for job in jobs.values()):
        raise UserError(f"power: 04 of {preset} has to train `plain` and `distilled-student` with two seeds or more.")
    frames = ranks(jobs, home / "runs")
    plain, taught = (
        [by_user(frame, seen)["ndcg@10"] for frame in frames[name]] for name in ("plain", "distilled-student")
    )
    level, users = sum(frame.mean() for frame in plain) / len(plain), len(plain[0])
    sizes, students = [users * times for times in TIMES], len(taught_rows(read_main(preset, seen)))
    print(
        f"{TABLES * len(sizes) * len(SEEDS) * len(GAINS):,} synthetic tables of {students} taught students", flush=True
    )
    gains = [gain * level for gain in GAINS]
    found = power(components(taught, plain), sizes, SEEDS, gains, students=students, tables=TABLES)
    found["gain"] = (found["gain"] / level).map("{:>6.1%}".format)
    table = found.pivot_table("power", ["users", "seeds"], "gain")
    return f"plain NDCG@10 {level:.4f}, {users:,} users", table


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
