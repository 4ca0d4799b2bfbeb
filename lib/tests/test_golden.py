"""Texts and numbers that a change of the code's form must leave alone, kept in golden/*.json.

Names of the library stand in golden_calls.py. `python lib/tests/test_golden.py --write [group ...]` stores what the
code gives now: for a change of behaviour that is wanted, and with a look at the difference.
"""

import hashlib
import json
import sys
from itertools import product
from pathlib import Path

import golden_calls as lib
import numpy as np
import pandas as pd
import pytest
import torch
from seqdistill.io import load_table
from transformers import T5Config, T5ForConditionalGeneration

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "data" / "profiles" / "movielens-small"
TOLERANCE = {"significance": (1e-6, 1e-9), "teacher": (1e-4, 3e-5)}  # relative, absolute
COARSE = 0.01  # of a metric over ranks, one of which may move on another processor


def sha(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=lambda it: it.tolist()).encode()).hexdigest()


def prompts():
    titles = ['The "Sea" [INST]', "Blue\nRoad", "Old House", "Sky", "Song", "Road Again"] * 2
    kinds, years = ["Drama|War", "War", "Comedy", "Comedy|Drama", "", "Comedy"] * 2, [1981, 1999, None] * 4
    items = pd.DataFrame({"item": range(12), "title": titles, "categories": kinds, "year": years})
    events = pd.DataFrame({"user": 0, "item": range(12), "value": [5.0, 2, 4, 4.5, 1, 3] * 2, "split": "train"})
    shop = {"brand": ["Acme", "Zed"] * 6, "price": "9.99", "description": "A thing. " * 40, "color": "red"}
    found, whole = {"sampling": lib.STYLES}, dict(zip(lib.DOMAINS, ("grounded", "short", "long", "short"), strict=True))
    for domain, style, strategy in product(lib.DOMAINS, lib.STYLES, lib.STRATEGIES):
        if style not in lib.FROM_FACTS or strategy == "plain":
            texts = {"movies": {"directors": "B"}, "generic": {}}.get(domain, shop)
            read = lib.histories(events, items.assign(**texts))[0]
            rounds = lib.played(domain, style, strategy, read, 2100, lambda text: 30 * len(text.split()))
            found[f"{domain} {style} {strategy}"] = [len(one) for one in rounds], sha(rounds)
            if strategy == "plain" and whole[domain] == style:
                found[f"{domain} {style}, in full"] = rounds[0][0][0]
            if (domain, style) == ("movies", "short") and strategy != "plain":
                found[f"{strategy}, last message"] = rounds[0][-2][0][-1]["content"]
    return found


def questions():
    found = {}
    for path in sorted(SHIPPED.glob("*.parquet")):
        known = lib.read_shipped(path)
        told = {user_id for user_id, *_ in known}
        answered = lib.shipped(known, lib.asked(*lib.file_of(path.stem), told))
        found[path.stem] = {"users": len(told), "answered": len(answered), "keys": sha(sorted(answered))}
    return found


def facts():
    texts = [lib.facts_text(read, {}) for read in lib.movielens()[2].values()]
    lines = sha([lib.history_lines(read) for read in lib.movielens()[2].values()])
    samples = [texts[user] for user in (0, 300, 670)]
    return {"users": len(texts), "facts": sha(texts), "lines": lines, "samples": samples}


def columns():
    data, events, _ = lib.movielens()
    found = {"events": sha([events[name] for name in ("user", "item", "time", "value")])}
    ways = [{"name": "leave_one_out"}, {"name": "leave_last_k", "last_k": 10}]
    for protocol in [*ways, *({"name": "global_time", "targets": targets} for targets in ("last", "all"))]:
        column = lib.split_of(data, **protocol)
        counts = column.value_counts().sort_index().to_dict()
        found[" ".join(map(str, protocol.values()))] = [counts, sha(column.tolist())]
    left, removed, reduced = lib.cold_items(events)
    cold = [removed, reduced, left["item"], left["split"].tolist()]
    found["cold"] = [len(left), len(removed), len(reduced), sha(cold)]
    return found | {"newcomers": sha(lib.newcomers(events, 0.2, 5, 0)["split"].tolist())}


def training():
    shapes = ((40, 6), (30, 5), (30, 8))
    one, texts, start = (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    one[3] = torch.nan
    sides, losses = ("teacher", "teacher_frozen", "student"), ("mse", "rmse", "cosine", "infonce")
    ways = {f"{side} {loss}": {"projection": side, "loss": loss} for side, loss in product(sides, losses)}
    ways |= {how: {"aggregation": how, "gamma": 0.3} for how in ("mean", "exponential", "attention", "last")}
    ways |= {"shuffled": {"shuffled": True}, "no beta": {"beta": False, "alpha": 0.7}, "block 1": {"block": 1}}
    ways |= {"norm": {"block": "final_norm", "probe": True}}
    ways |= {"student shuffled": {"projection": "student", "shuffled": True}}
    runs = {name: {"teach": teach, "teacher": one} for name, teach in ways.items()}
    runs |= {loss: {"loss": loss, "negatives": 7} for loss in ("full", "sampled")}
    runs |= {"text": {"text": {"id_dropout": 0.2}, "texts": texts}, "start": {"start": start}}
    runs["text taught"] = runs["text"] | {"teach": {"projection": "student"}, "teacher": one}
    runs["temperature"] = {"shape": {"temperature": 0.1, "item_dropout": 0.2}, "validate_on": "excluded"}
    runs["schedule"] = {"schedule": "cosine", "warmup": 1.0, "windows": "last", "clip": 0.5}
    named = product(("SASRec", "BERT4Rec"), runs.items())
    found = {f"{model} {name}": lib.trained(model, **{"shape": {}} | run) for model, (name, run) in named}
    return {"engine": lib.engine.ENGINE_VERSION} | found


def teacher():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 12)) * np.arange(1, 13)
    reduced, later = lib.fit(vectors, "pca", 4)
    found = {"none": lib.fit(vectors, "none", 4)[0][:2], "pca": reduced[:9], "later": later(vectors[:3] + 1)}
    found["standardised"] = lib.standardised(reduced)[:9]
    found["rows"] = lib.teacher_rows(reduced[:5], np.array([1, 1, 4, 6, 7]), 9)
    return found | {"kept": lib.diagnostics(vectors, reduced, 5)}


def significance():
    rng, systems = np.random.default_rng(0), {}
    frame = pd.DataFrame({"user": np.repeat(np.arange(60), 2), "item": 1, "position": np.tile([0, 1], 60)})
    base = rng.integers(1, 30, 120)
    for name, gain in {"plain": 0, "taught": 9, "weak": 2, "control": 1}.items():
        seeds = [np.maximum(1, base - gain + rng.integers(-2, 3, 120)) for _ in range(3)]
        systems[name] = [frame.assign(rank_all=ranks, rank_unseen=np.maximum(1, ranks - 2)) for ranks in seeds]
    systems["once"] = systems["weak"][:1]
    against = dict.fromkeys(("taught", "weak", "control", "once"), "plain")
    controls = dict.fromkeys(("taught", "weak"), "control")
    found = {"fixed": lib.compare(systems, {"once": "plain"}, "included", False, None, ["once"])}
    for column, last in (("included", False), ("excluded", True)):
        found[f"{column} {last}"] = lib.compare(systems, against, column, last, controls)
    return {name: table.to_dict("list") for name, table in found.items()}


def rivals():
    events = lib.circle().assign(time=lib.circle()["time"] * 86_400)
    known, test = events[events["split"] == "train"], lib.cases(events, "test")
    texts = np.random.default_rng(0).normal(size=(30, 5))
    scores = {"popularity": lib.popularity(known, 30), "text-kNN": lib.text_knn(texts)}
    scores["recent"] = lib.recent_popularity(known, 30, test, 3)
    scores |= {f"item-kNN {shrinkage}": lib.item_knn(known, 30, shrinkage) for shrinkage in (1.0, 10.0)}
    ranked = {name: lib.rank(test, score) for name, score in scores.items()}
    found = {f"{name} {kind}, ranks": ranked[name][f"rank_{kind}"] for name, kind in product(scores, ("all", "unseen"))}
    return found | {f"{name}, top": lib.top(test, scores[name])[:9] for name in scores if "kNN" in name}


def ranking():
    drawn, test = np.random.default_rng(0), lib.cases(lib.circle(), "test")
    ties = torch.from_numpy(drawn.integers(0, 6, (4, 12)).astype(float))
    wide, table = (np.tile(np.arange(float(n)), (rows, 1)) for n, rows in ((400, 3), (30, 80)))
    wide, table = (torch.from_numpy(drawn.permuted(values, axis=1)) for values in (wide, table))
    targets, seen = torch.tensor([1, 4, 12, 7]), torch.tensor([[1, 4, 4], [2, 0, 0], [5, 6, 12], [1, 2, 3]])
    found = {"ties": [ranks.tolist() for ranks in lib.ranks_of(ties, targets, seen)], "best": lib.topk(wide, 7)}
    for kept in (True, False):
        found[f"seen {kept}"] = lib.top(test, lambda chosen, _: table[chosen], kept, 7)[:20]
    return found | {"metrics": lib.metrics(pd.Series([1, 1, 2, 3, 5, 6, 10, 11, 20, 21, 400]))}


def identifiers():
    words = product(("Drama", "War"), ("Red", "Blue", "Old"), ("Sea", "Road", "House", "Sky", "Song"))
    written = lib.named([f'"{one} {two}"; {kind}' for kind, one, two in words])
    found = dict(zip(("first", "prompt", "names"), written, strict=True))
    torch.manual_seed(0)
    shape = {"vocab_size": 12, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()
    ids, read = [(3, 4), (3,), (5, 6, 7), (9, 3), (5, 6), (8, 8, 8, 8)], torch.tensor([[3, 4, 5, 1], [9, 9, 1, 0]])
    found["items"], found["scores"] = lib.constrained_beam_search(model, read, read > 0, ids, 4)
    following, leaves = lib.trie(ids, 1)
    tree = sorted([*following.items(), *leaves.items()], key=str)
    return found | {"trie": tree, "templates": sha(lib.templates())}


def fidelity():
    """What the second chapter counts in the shipped profiles of the smaller model."""
    (data, _, read), path = lib.movielens(), SHIPPED / "qwen2.5-coder-0.5b-grounded.parquet"
    vocabulary = sorted({name for table in read.values() for names in table["categories"] for name in names})
    told = lib.latest(load_table(path), "plain")
    told = told.assign(user=told["user_id"].map(dict(zip(data.users["user_id"], data.users["user"], strict=True))))
    checked, faults = lib.audit(told, read, vocabulary), sum(bool(lib.fault(text)) for text in told["text"])
    totals = {name: int(value) for name, value in checked.drop(columns="user").sum().items()}
    return {"totals": totals, "shares": lib.summary(checked), "faults": faults}


GROUPS = (prompts, questions, facts, columns, training, teacher, significance, rivals, ranking, identifiers)
GROUPS = {group.__name__: group for group in (*GROUPS, fidelity)}


def computed(group):
    """What the code gives now, as it is stored: with floats of eight digits."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = json.dumps(GROUPS[group](), default=lambda it: it.tolist())
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.8g}"))


def agree(found, stored, where, relative, least):
    """Compare all parts of a value; ranks, and names that an untrained model chose, may differ a little."""
    if isinstance(stored, dict):
        assert found.keys() == stored.keys(), where
        for name in stored:
            margin = COARSE if name in ("valid", "test") else least
            agree(found[name], stored[name], f"{where}, {name}", relative, margin)
    elif where.endswith(", ranks"):
        moved = np.abs(np.array(found) - stored)
        assert moved.max() <= 2 and (moved > 0).mean() <= 0.05, where
    elif where.endswith(", names"):
        assert np.mean([one == other for one, other in zip(found, stored, strict=True)]) >= 0.9, where
    elif isinstance(stored, list):
        assert len(found) == len(stored), where
        for place, (one, other) in enumerate(zip(found, stored, strict=True)):
            agree(one, other, f"{where}, {place}", relative, least)
    else:
        near = pytest.approx(stored, rel=relative, abs=least, nan_ok=True) if isinstance(stored, float) else stored
        assert found == near, where


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_has_changed(group):
    if group == "training" and torch.cuda.is_available():
        pytest.skip("a GPU draws other dropout")
    stored = json.loads((HERE / "golden" / f"{group}.json").read_text())
    agree(computed(group), stored, group, *TOLERANCE.get(group, (1e-4, 1e-6)))


if __name__ == "__main__" and sys.argv[1:2] == ["--write"]:
    for chosen in sys.argv[2:] or GROUPS:
        path, found = HERE / "golden" / f"{chosen}.json", computed(chosen)
        old = json.loads(path.read_text()) if path.exists() else {}
        if old.get("engine", 0) == found.get("engine"):  # recorded runs would not be those of the new code
            both = found.keys() & old.keys()
            known, new = ({name: part[name] for name in both} for part in (old, found))
            agree(new, known, "training (other numbers need another ENGINE_VERSION)", 1e-4, 1e-6)
            found |= known  # so that small steps do not add up
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
