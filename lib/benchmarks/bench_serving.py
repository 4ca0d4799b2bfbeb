"""What do training, serving and growth cost? `make bench-serving`, on the students that the default preset trained.

CPU seconds are those of one thread (`torch.set_num_threads(1)`); systems are measured in turn, so that a busy machine
slows all of them; a peak of memory is that of a process of its own, which imports what it needs and no more. Writes
outputs/bench/{overhead,serving,rival,latency,catalogue,int8,growth,teacher}.csv.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_growth import SHAPE, grow, grow_users, growth, scan
from measuring import apart, peak_mb, timed
from seqdistill.config import parse
from seqdistill.data.sequences import Ragged
from seqdistill.embeddings.teachers import item_texts
from seqdistill.evaluation.ranking import block_size, model_score, rank, recommend, topk
from seqdistill.evaluation.significance import by_user, compare, paired
from seqdistill.io import load_json, load_table, outputs_dir, save_csv
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.reporting.efficiency import NAMES, chosen
from seqdistill.training.epochs import epoch, training_rows
from seqdistill.training.sweep import ranks, run_folder
from seqdistill.training.train import TrainingData, fresh, load_model, load_training_data

PRESET, OUT = os.environ.get("PRESET") or "default", outputs_dir("bench")
HOME = outputs_dir(PRESET)
PAIRS, ROUNDS, PASSES, REQUESTS = 24, 2, 5, 2_000
SIZES, QUERIES = (10_000, 100_000, 1_000_000), 200
ASKED = 50  # requests of IDGenRec timed one by one


def overhead() -> pd.DataFrame:
    """Train with and without the teacher in turn, who begins changing: seconds of every epoch of phase 1."""
    given, rows = load_training_data(HOME / "artifacts"), []
    for model in models(given):
        runs = {name: chosen(HOME, given, 0)[model, name].run for name in ("plain", "distilled")}
        sides = {name: (run, *fresh(run, given)) for name, run in runs.items()}
        for number in range(PAIRS):
            row = {"model": model, "share": runs["distilled"].distillation.phase1_fraction, "pair": number}
            for name in sorted(sides, reverse=number % 2 == 0):
                run, net, teacher, optimizer, machine = sides[name]
                cut = training_rows(given.train, run)
                row[f"{name}_cpu_s"], row[f"{name}_wall_s"] = timed(
                    lambda a=(cut, net, teacher, optimizer, run, number, machine): epoch(*a)
                )
            rows.append(row)
            print(row, flush=True)
    return pd.DataFrame(rows)


def models(given: TrainingData) -> list[str]:
    """Names of the students that chapter 4 trained."""
    return sorted({model for model, _ in chosen(HOME, given, 0)})


def trained(model: str, variant: str) -> tuple[SequentialRecommender, Ragged]:
    """The student of seed 0, and the histories of the test set."""
    given = load_training_data(HOME / "artifacts")
    return load_model(
        run_folder(chosen(HOME, given, 0)[model, variant], HOME / "runs"), given.items
    ), given.test.histories


def infer(model: str, variant: str, batch: int) -> dict:
    """Recommend ten items for every test case, `batch` at a time: median seconds of several passes."""
    torch.set_num_threads(1)
    net, histories = trained(model, variant)
    before, score, walls = peak_mb(), model_score(net), []

    def each() -> None:
        for row in range(len(histories)):
            begun = time.perf_counter()
            recommend(one(histories, row), score)
            walls.append(1000 * (time.perf_counter() - begun))

    def together() -> None:
        recommend(histories, score, size=batch)

    recommend(one(histories, 0), score)
    passes = [timed(each)] if batch == 1 else [timed(together) for _ in range(PASSES)]
    cpu, wall = np.median(passes, 0).tolist()
    found = {"cpu_s": cpu, "wall_s": wall, "cases": len(histories), "start_rss_mb": before, "peak_rss_mb": peak_mb()}
    if walls:
        found |= dict(zip(("p50_ms", "p99_ms"), np.percentile(walls, (50, 99)).tolist(), strict=True))
    return found | {"parameters": sum(weight.numel() for weight in net.parameters())}


def one(histories: Ragged, row: int) -> Ragged:
    """A single history."""
    chosen_row = slice(row, row + 1)
    return Ragged(
        histories.items, histories.starts[chosen_row], histories.ends[chosen_row], histories.users[chosen_row]
    )


def serve() -> pd.DataFrame:
    """Inference for the test set, the systems in turn, each time in a fresh process; quality from chapter 4's runs."""
    given, rows = load_training_data(HOME / "artifacts"), []
    dataset = load_table(HOME / "artifacts" / "users.parquet")["dataset"].iloc[0]
    seeds = [0, 1, 2, 3, 4] if PRESET == "default" else [0]
    quality = {
        name: np.mean([by_user(frame, "included")["ndcg@10"].mean() for frame in frames])
        for name, frames in ranks(
            {(system, seed): job for seed in seeds for system, job in chosen(HOME, given, seed).items()}, HOME / "runs"
        ).items()
    }
    for number in range(ROUNDS):
        for model, variant in quality:
            for batch in (256, 1) if number == 0 else (256,):
                row = {"dataset": dataset, "system": NAMES[variant].format(model), "round": number, "batch": batch}
                rows.append(row | apart("infer", model, variant, batch) | {"ndcg@10": quality[model, variant]})
    return pd.DataFrame(rows)


def decode(folder: str) -> dict:
    """Decode the cases of chapter 7 with a finished run of IDGenRec: seconds, of single requests too, peak memory."""
    import presets
    from safetensors.torch import load_file
    from seqdistill.idgenrec import model as idgenrec
    from seqdistill.idgenrec import rivals
    from seqdistill.idgenrec import train as idgenrun

    torch.set_num_threads(1)
    given, items = load_training_data(HOME / "artifacts"), load_table(HOME / "artifacts" / "items.parquet")
    home, values = Path(folder), presets.values_of(PRESET, "07-efficiency")
    cases = rivals.last_cases(given.test, values["cases"], values["draw"])
    settings = {**load_json(home / "config.json"), "tag_epochs": 0}
    system = idgenrec.start(parse(idgenrec.IDGenRec, settings, folder), given, item_texts(items))
    weights = load_file(home / "model.safetensors")
    for name in ("recommender", "generator"):
        own = {key.split(".", 1)[1]: value for key, value in weights.items() if key.startswith(name)}
        getattr(system, name).eval().load_state_dict(own, strict=False)
    idgenrec.renamed(system, load_json(home / "ids.json")["ids"])
    cpu, wall = timed(lambda: idgenrun.decode(system, given.test, cases))
    found = {"infer_cpu_s": cpu, "infer_wall_s": wall, "infer_cases": len(cases)}
    found["peak_rss_mb"] = peak_mb()
    walls = [1000 * idgenrun.requested(system, given.test, place) for place in cases[:ASKED]]
    return found | dict(zip(("p50_ms", "p99_ms"), np.percentile(walls, (50, 99)).tolist(), strict=True))


def rival() -> pd.DataFrame:
    """IDGenRec as chapter 7 trains it, each variant in a process of its own."""
    import presets
    from seqdistill.idgenrec import rivals
    from seqdistill.idgenrec import train as idgenrun

    given, items = load_training_data(HOME / "artifacts"), load_table(HOME / "artifacts" / "items.parquet")
    values = presets.values_of(PRESET, "07-efficiency")
    jobs = rivals.variants(values["idgenrec"], values["idgenrec_seeds"][:1], "07-efficiency")
    cases = rivals.last_cases(given.test, values["cases"], values["draw"])
    runs = idgenrun.sweep(jobs, given, item_texts(items), cases, HOME / "runs")
    return pd.DataFrame([{"system": name} | apart("decode", run["folder"]) for (name, _), run in runs.items()])


def latency() -> pd.DataFrame:
    """One request at a time, every system in turn in random order; each against `plain`, paired by request.

    `plain again` is the same student loaded twice: what a difference without a cause looks like here.
    """
    from seqdistill.serving import export as serving

    torch.set_num_threads(1)
    rng, rows = np.random.default_rng(0), []
    given, folder = load_training_data(HOME / "artifacts"), tempfile.TemporaryDirectory()
    for model in models(given):
        nets = {"plain": trained(model, "plain")[0], "distilled": trained(model, "distilled")[0]}
        nets["plain again"] = trained(model, "plain")[0]
        asked = {name: (lambda ids, net=net: net.score(torch.from_numpy(ids))) for name, net in nets.items()}
        path = serving.save_onnx(nets["plain"], Path(folder.name) / f"{model}.onnx")
        small = serving.quantised(path, Path(folder.name) / f"{model}-int8.onnx")
        opened = {"plain, ONNX": serving.session(path), "plain, ONNX int8": serving.session(small)}
        asked |= {name: (lambda ids, run=run: torch.from_numpy(run(ids))) for name, run in opened.items()}
        spent = {name: np.zeros((REQUESTS, 2)) for name in asked}
        for number in range(-50, REQUESTS):
            length = int(rng.integers(1, nets["plain"].reads + 1))
            ids = rng.integers(1, given.items + 1, (1, length))
            for name in rng.permutation(list(asked)):
                spent_now = timed(lambda ids=ids, ask=asked[name]: topk(ask(ids), 10))
                if number >= 0:
                    spent[name][number] = spent_now
        rows += [{"model": model, "system": name, **compared(spent, name)} for name in asked]
        print(pd.DataFrame(rows), flush=True)
    folder.cleanup()
    return pd.DataFrame(rows)


def compared(spent: dict[str, np.ndarray], name: str) -> dict:
    """Percentiles of a system's milliseconds, and its CPU time over that of `plain`: the geometric mean ratio."""
    cpu, wall = (1000 * spent[name]).T
    row = {"requests": REQUESTS}
    for kind, values in (("wall", wall), ("cpu", cpu)):
        row |= {f"{kind}_p{q}_ms": float(np.percentile(values, q)) for q in (50, 95, 99)}
    if name == "plain":
        return row
    test = paired([pd.Series(np.log(cpu))], [pd.Series(np.log(1000 * spent["plain"][:, 0]))])
    return (
        row
        | {
            key: float(np.exp(test[of]))
            for key, of in zip(("ratio", "ci_low", "ci_high"), ("delta", "ci_low", "ci_high"), strict=True)
        }
        | {"p": test["p"]}
    )


def catalogue() -> pd.DataFrame:
    """Exact and approximate search by size of the catalogue: trained vectors where there are any, else random ones."""
    torch.set_num_threads(1)
    rng, rows = np.random.default_rng(0), []
    lengths = rng.integers(1, 51, QUERIES)
    for variant in ("plain", "distilled"):
        net, histories = trained("SASRec", variant)
        drawn = rng.choice(len(histories), QUERIES, replace=False)
        known = [histories.row(row)[None, -length:] for row, length in zip(drawn, lengths, strict=True)]
        rows += scan(net, f"trained, {variant}", known)
    for items in SIZES:
        net = SequentialRecommender(items, SHAPE).eval()
        rows += scan(net, "random", [rng.integers(1, items + 1, (1, length)) for length in lengths])
    return pd.DataFrame(rows)


def int8() -> pd.DataFrame:
    """NDCG@10 of the plain students through ONNX, fp32 and int8, paired on the same users; megabytes of the files."""
    from seqdistill.serving import export as serving

    torch.set_num_threads(1)
    given, scored, size = load_training_data(HOME / "artifacts"), {}, {}
    seeds = [0, 1, 2] if PRESET == "default" else [0]
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for (model, variant), job in chosen(HOME, given, seed).items():
                if variant == "plain":
                    net = load_model(run_folder(job, HOME / "runs"), given.items)
                    whole = serving.save_onnx(net, Path(folder) / f"{model}.onnx")
                    files = {"fp32": whole, "int8": serving.quantised(whole, Path(folder) / f"{model}-8.onnx")}
                    for kind, path in files.items():
                        score = serving.run_score(serving.session(path), net.max_history)
                        scored.setdefault(f"{model} {kind}", []).append(
                            rank(given.test, score, block_size(given.items))
                        )
                        size[f"{model} {kind}"] = path.stat().st_size / 2**20
    against = {name: name.replace("int8", "fp32") for name in scored if name.endswith("int8")}
    # Both files hold the same weights, so that what seeds differ by is in both: they are averaged before the test.
    averaged = {name: [pd.concat(frames)] for name, frames in scored.items()}
    table, by_seed = (
        compare(averaged, against, "included", False, fixed=averaged),
        compare(scored, {}, "included", False),
    )
    of_seeds = ["seeds", "cases", "recall@10_std", "ndcg@10_std"]
    table[of_seeds] = by_seed[of_seeds]
    return table.assign(file_mb=table["variant"].map(size))


def teacher() -> pd.DataFrame:
    """CPU seconds of the sentence encoder for some of the profiles, its loading aside."""
    from seqdistill.embeddings import encoders

    texts = load_table(HOME / "artifacts" / "profiles.parquet")["text"].head(64).tolist()
    run, _ = encoders.encoder_of("e5-small").open()
    run(texts[:2], "passage")
    cpu, wall = timed(lambda: run(texts, "passage"))
    return pd.DataFrame([{"encoder": "e5-small", "texts": len(texts), "cpu_s": cpu, "wall_s": wall}])


TABLES = {
    "overhead": overhead,
    "serving": serve,
    "rival": rival,
    "latency": latency,
    "catalogue": catalogue,
    "int8": int8,
    "growth": growth,
    "teacher": teacher,
}


def main(wanted: list[str]) -> None:
    for name in wanted or TABLES:
        begun, load = time.monotonic(), os.getloadavg()[0]
        table = TABLES[name]().assign(load=load, date=str(date.today()))
        save_csv(table, OUT / f"{name}.csv")
        print(f"{name}: {time.monotonic() - begun:.0f} s\n{table.to_string()}", flush=True)


if __name__ == "__main__":
    action, *values = sys.argv[1:] or [""]
    single = {"infer": infer, "decode": decode, "grow": grow, "grow_users": grow_users}
    if action in single:
        values = [int(value) if value.isdigit() else value for value in values]
        with contextlib.redirect_stdout(sys.stderr):
            result = single[action](*values)
        print(json.dumps(result))
    else:
        main([action, *values] if action else [])
