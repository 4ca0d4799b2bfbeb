"""What do training, serving and growth cost? `make bench-serving`, on both students with a preset's settings of 04.

CPU seconds are those of one thread; systems are measured in turn, so that a busy machine slows all of them; a peak of
memory is that of a process of its own. Writes outputs/bench/{overhead,serving,rival,latency,int8,growth}.csv.
"""

import os
import tempfile
import time
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_growth import grow, grow_users, growth
from measuring import against_plain, apart, command, peak_mb, timed
from presets import STUDENTS, values_of
from seqbook.reporting.efficiency import NAMES
from seqdistill.config import Distillation, parse, parse_recommender
from seqdistill.data.sequences import latest
from seqdistill.embeddings.teachers import item_texts
from seqdistill.evaluation.ranking import block_size, model_score, rank, recommend, topk
from seqdistill.evaluation.significance import by_user, compare
from seqdistill.io import load_json, load_table, outputs_dir, save_csv
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.loop import epoch, training_rows
from seqdistill.training.sweep import Job, ranks, sweep
from seqdistill.training.train import fresh, load_model, load_training_data, train

PRESET, OUT = os.environ.get("PRESET") or "default", outputs_dir("bench")
HOME = outputs_dir(PRESET)
PAIRS, ROUNDS, PASSES, REQUESTS = 24, 2, 5, 2_000
ASKED = 50  # requests of IDGenRec timed one by one


def students(seed: int = 0) -> dict[tuple[str, str], Job]:
    """Jobs of the students by model ("SASRec") and variant ("plain", "distilled"), as chapter 4 would train them."""
    data, jobs, values = load_training_data(HOME / "artifacts"), {}, values_of(PRESET, "04-distillation")
    for model in STUDENTS:
        run = replace(parse_recommender(values[model.lower()], model, PRESET), seed=seed)
        taught = replace(run, distillation=parse(Distillation, values[f"{model.lower()}_teacher"], PRESET))
        jobs |= {(model, "plain"): Job(run, data), (model, "distilled"): Job(taught, data)}
    return jobs


def load(model: str, variant: str, seed: int = 0) -> SequentialRecommender:
    """Load a student; one that chapter 4 has not trained is trained first."""
    return load_model(train(*students(seed)[model, variant], HOME / "runs")["folder"])


def overhead() -> pd.DataFrame:
    """Train with and without the teacher in turn, who begins changing: seconds of every epoch of phase 1."""
    data, rows, jobs = load_training_data(HOME / "artifacts"), [], students()
    for model in sorted(STUDENTS):
        configs = {name: jobs[model, name].run for name in ("plain", "distilled")}
        sides = {name: (config, *fresh(config, data)) for name, config in configs.items()}
        for number in range(PAIRS):
            row = {"model": model, "share": configs["distilled"].distillation.phase1_fraction, "pair": number}
            for name in sorted(sides, reverse=number % 2 == 0):
                config, net, teacher, optimizer, machine = sides[name]
                arguments = (training_rows(data.train, config), net, teacher, optimizer, config, number, machine)
                row[f"{name}_cpu_s"], row[f"{name}_wall_s"] = timed(lambda a=arguments: epoch(*a))
            rows.append(row)
            print(row, flush=True)
    return pd.DataFrame(rows)


def infer(model: str, variant: str, batch: int) -> dict:
    """Recommend ten items for every test case, `batch` at a time: median seconds of several passes."""
    torch.set_num_threads(1)
    net, histories, walls = load(model, variant), load_training_data(HOME / "artifacts").test.histories, []
    before, score = peak_mb(), model_score(net)

    single = [latest(histories, np.array([row]), histories.lengths.max()) for row in range(len(histories))]

    def each() -> None:
        walls.extend(1000 * timed(lambda history=history: recommend(history, score))[1] for history in single)

    recommend(single[0], score)
    together = [timed(lambda: recommend(histories, score, size=batch)) for _ in range(PASSES if batch > 1 else 0)]
    cpu, wall = np.median(together or [timed(each)], 0).tolist()
    row = {"cpu_s": cpu, "wall_s": wall, "cases": len(histories), "start_rss_mb": before, "peak_rss_mb": peak_mb()}
    row |= dict(zip(("p50_ms", "p99_ms"), np.percentile(walls, (50, 99)).tolist(), strict=True)) if walls else {}
    return row | {"parameters": sum(weight.numel() for weight in net.parameters())}


def serve() -> pd.DataFrame:
    """Inference for the test set, the systems in turn, each time in a fresh process; quality from chapter 4's runs."""
    dataset = load_table(HOME / "artifacts" / "users.parquet")["dataset"].iloc[0]
    seeds = load_json(HOME / "artifacts" / "student.json")["seeds"]
    jobs = {(system, seed): job for seed in seeds for system, job in students(seed).items()}
    sweep(jobs, HOME / "runs")
    quality = {
        system: np.mean([by_user(frame, "included")["ndcg@10"].mean() for frame in frames])
        for system, frames in ranks(jobs, HOME / "runs").items()
    }
    return pd.DataFrame(
        {"dataset": dataset, "system": NAMES[variant].format(model), "round": number, "batch": batch}
        | apart("infer", model, variant, batch)
        | {"ndcg@10": quality[model, variant]}
        for number in range(ROUNDS)
        for model, variant in quality
        for batch in ((256, 1) if number == 0 else (256,))
    )


def decode(folder: str) -> dict:
    """Decode the cases of chapter 7 with a finished run of IDGenRec: seconds, of single requests too, peak memory."""
    from safetensors.torch import load_file
    from seqbook.idgenrec import model as idgenrec
    from seqbook.idgenrec import rivals
    from seqbook.idgenrec import train as idgenrun

    torch.set_num_threads(1)
    data, items = load_training_data(HOME / "artifacts"), load_table(HOME / "artifacts" / "items.parquet")
    home, values = Path(folder), values_of(PRESET, "07-efficiency")
    cases = rivals.last_cases(data.test, values["cases"], values["draw"])
    settings = {**load_json(home / "config.json"), "tag_epochs": 0}
    system = idgenrun.start(parse(idgenrec.IDGenRec, settings, folder), data, item_texts(items))
    weights = load_file(home / "model.safetensors")
    for name in ("recommender", "generator"):
        own = {key.split(".", 1)[1]: value for key, value in weights.items() if key.startswith(name)}
        getattr(system, name).eval().load_state_dict(own, strict=False)
    system.rename(load_json(home / "ids.json")["ids"])
    cpu, wall = timed(lambda: idgenrun.decode(system, data.test, cases))
    row = {"infer_cpu_s": cpu, "infer_wall_s": wall, "infer_cases": len(cases), "peak_rss_mb": peak_mb()}
    walls = [1000 * idgenrun.requested(system, data.test, place) for place in cases[:ASKED]]
    return row | dict(zip(("p50_ms", "p99_ms"), np.percentile(walls, (50, 99)).tolist(), strict=True))


def rival() -> pd.DataFrame:
    """IDGenRec as chapter 7 trains it, each variant in a process of its own."""
    from seqbook.idgenrec import rivals
    from seqbook.idgenrec import train as idgenrun

    data, items = load_training_data(HOME / "artifacts"), load_table(HOME / "artifacts" / "items.parquet")
    values = values_of(PRESET, "07-efficiency")
    jobs = rivals.variants(values["idgenrec"], values["idgenrec_seeds"][:1], "07-efficiency")
    cases = rivals.last_cases(data.test, values["cases"], values["draw"])
    runs = idgenrun.sweep(jobs, data, item_texts(items), cases, HOME / "runs")
    return pd.DataFrame([{"system": name} | apart("decode", run["folder"]) for (name, _), run in runs.items()])


def latency() -> pd.DataFrame:
    """One request at a time, every system in turn in random order; each against `plain`, paired by request.

    `plain again` is the same student loaded twice: what a difference without a cause looks like here.
    """
    from seqdistill.serving import export as serving

    torch.set_num_threads(1)
    rng, rows, folder = np.random.default_rng(0), [], tempfile.TemporaryDirectory()
    for model in sorted(STUDENTS):
        variants = {"plain": "plain", "distilled": "distilled", "plain again": "plain"}
        nets = {name: load(model, variant) for name, variant in variants.items()}
        systems = {name: (lambda ids, net=net: net.score(torch.from_numpy(ids))) for name, net in nets.items()}
        path = serving.save_onnx(nets["plain"], Path(folder.name) / f"{model}.onnx")
        small = serving.quantised(path, Path(folder.name) / f"{model}-int8.onnx")
        opened = {"plain, ONNX": serving.session(path), "plain, ONNX int8": serving.session(small)}
        systems |= {name: (lambda ids, run=run: torch.from_numpy(run(ids))) for name, run in opened.items()}
        spent = {name: np.zeros((REQUESTS, 2)) for name in systems}
        for number in range(-50, REQUESTS):
            length = int(rng.integers(1, nets["plain"].max_history + 1))
            ids = rng.integers(1, nets["plain"].items + 1, (1, length))
            for name in rng.permutation(list(systems)):
                seconds = timed(lambda ids=ids, score=systems[name]: topk(score(ids), 10))
                if number >= 0:
                    spent[name][number] = seconds
        rows += [{"model": model, "system": name, **against_plain(spent, name)} for name in systems]
        print(pd.DataFrame(rows), flush=True)
    folder.cleanup()
    return pd.DataFrame(rows)


def int8() -> pd.DataFrame:
    """NDCG@10 of the plain students through ONNX, fp32 and int8, paired on the same users; megabytes of the files."""
    from seqdistill.serving import export as serving

    torch.set_num_threads(1)
    data, scored, size = load_training_data(HOME / "artifacts"), {}, {}
    seeds = load_json(HOME / "artifacts" / "student.json")["seeds"][:3]
    with tempfile.TemporaryDirectory() as folder:
        for seed, model in product(seeds, STUDENTS):
            net = load(model, "plain", seed)
            whole = serving.save_onnx(net, Path(folder) / f"{model}.onnx")
            files = {"fp32": whole, "int8": serving.quantised(whole, Path(folder) / f"{model}-8.onnx")}
            for kind, path in files.items():
                score = serving.run_score(serving.session(path), net.max_history)
                scored.setdefault(f"{model} {kind}", []).append(rank(data.test, score, block_size(data.items)))
                size[f"{model} {kind}"] = path.stat().st_size / 2**20
    against = {name: name.replace("int8", "fp32") for name in scored if name.endswith("int8")}
    # Both files hold the same weights, so that what seeds differ by is in both: they are averaged before the test.
    averaged = {name: [pd.concat(frames)] for name, frames in scored.items()}
    table = compare(averaged, against, "included", False, fixed=averaged)
    columns = ["seeds", "cases", "recall@10_std", "ndcg@10_std"]
    table[columns] = compare(scored, {}, "included", False)[columns]
    return table.assign(file_mb=table["variant"].map(size))


TABLES = {"overhead": overhead, "serving": serve, "rival": rival, "latency": latency}
TABLES |= {"int8": int8, "growth": growth}


def main(*wanted: str) -> None:
    for name in wanted or TABLES:
        begun, load = time.monotonic(), os.getloadavg()[0]
        table = TABLES[name]().assign(load=load, date=str(date.today()))
        save_csv(table, OUT / f"{name}.csv")
        print(f"{name}: {time.monotonic() - begun:.0f} s\n{table.to_string()}", flush=True)


if __name__ == "__main__":
    command({"infer": infer, "decode": decode, "grow": grow, "grow_users": grow_users}, main)
