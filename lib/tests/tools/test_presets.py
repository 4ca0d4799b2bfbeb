"""Every preset can be trained: its students are built, on data of its layout, and make two steps in each phase."""

import re
from dataclasses import replace

import book
import layouts_small
import presets
import pytest
import synthetic
import torch
import yaml
from seqdistill import data as datasets
from seqdistill.config import Distillation, parse, parse_recommender
from seqdistill.data import splits
from seqdistill.io import UserError
from seqdistill.training.loop import examples, step, training_rows
from seqdistill.training.train import fresh, training_data

FILES = {
    "ml-20m": lambda raw: synthetic.ml_20m(raw, 60, 40, 1_800),
    "amazon-m2": lambda raw: synthetic.amazon_m2(raw, 120, 20, 900),
    "beauty": layouts_small.beauty,
    "kion": layouts_small.kion,
    "amazon-beauty-5core": layouts_small.beauty_5core,
}
NAMES = sorted(path.stem for path in presets.PRESETS.glob("*.yaml"))


def solved(preset, home):
    """A preset's problem: its data set's layout filled with few rows, its split, and any teacher of its width."""
    data, width = presets.values_of(preset, "01-data"), presets.values_of(preset, "03-embeddings")["components"]
    if fill := FILES.get(data["dataset"]):
        (raw := home / "data" / data["dataset"] / "raw").mkdir(parents=True)
        fill(raw)
    read = datasets.load(data["dataset"], data["minimum"], data["first_users"] or 60, data["filter"])
    how = {name: data[name] for name in ("last_k", "quantile", "targets", "valid_share", "seed")}
    how = parse(splits.Protocol, {"name": data["protocol"], **how}, preset)
    events = read.events.assign(split=splits.split(read.events, how, read.dated))
    return training_data(events, len(read.items), torch.randn(events["user"].max() + 1, width))


@pytest.mark.parametrize("name", presets.STUDENTS)
@pytest.mark.parametrize("preset", NAMES)
def test_every_preset_trains(preset, name, home):
    presets.check_preset(preset)
    given, chosen = solved(preset, home), presets.values_of(preset, "04-distillation")
    assert len(given.test) and len(given.valid)
    run, taught = parse_recommender(chosen[name.lower()], name, preset), chosen[f"{name.lower()}_teacher"]
    for setting in (taught, taught | chosen["own"], None):
        config = replace(run, distillation=setting and parse(Distillation, setting, preset))
        model, teacher, optimizer, machine = fresh(config, given)
        before = model.item.weight.clone()
        batch = next(examples(training_rows(given.train, run), run, 0, model.mask_id))
        log = step(batch, model, teacher, optimizer, config, machine)
        assert all(value.isfinite() for value in log.values()) and ("loss_distil" in log) == (setting is not None)
        assert model.item.weight.isfinite().all() and not torch.equal(before, model.item.weight)


PAPER = {  # dim, blocks, heads, dropout, batch, lr, epochs, switch, alpha, beta, loss, block from 0, aggregation
    ("beauty", "sasrec"): (128, 4, 2, 0.3, 256, 5e-4, 25, 12, 0.4, True, "mse", 3, "mean"),
    ("ml-20m", "sasrec"): (256, 4, 4, 0.2, 256, 7.5e-4, 200, 30, 0.8, False, "mse", 1, "exponential"),
    ("kion", "sasrec"): (64, 4, 4, 0.3, 256, 5e-4, 30, 8, 0.65, True, "rmse", 3, "mean"),
    ("amazon-m2", "sasrec"): (64, 2, 8, 0.2, 128, 5e-4, 30, 10, 0.8, False, "rmse", 1, "exponential"),
    ("beauty", "bert4rec"): (128, 4, 2, 0.3, 256, 5e-4, 60, 20, 0.4, True, "mse", 3, "mean"),
    ("ml-20m", "bert4rec"): (256, 4, 2, 0.2, 256, 7.5e-4, 100, 20, 0.8, False, "mse", 3, "exponential"),
    ("kion", "bert4rec"): (64, 4, 2, 0.3, 256, 1e-4, 30, 20, 0.6, False, "mse", 3, "mean"),
    ("amazon-m2", "bert4rec"): (64, 2, 8, 0.3, 128, 5e-4, 100, 50, 0.6, True, "rmse", 1, "exponential"),
}


@pytest.mark.parametrize(("preset", "student"), PAPER)
def test_the_papers_settings_stand_in_its_presets(preset, student):
    said = yaml.safe_load((presets.PRESETS / f"{preset}.yaml").read_text())["04-distillation"]
    run, taught = said[student], parse(Distillation, said[f"{student}_teacher"], preset)
    shape = run["model"]
    found = (shape["dim"], shape["blocks"], shape["heads"], shape["dropout"], run["batch"], run["lr"], run["epochs"])
    switch = round(run["epochs"] * taught.phase1_fraction)
    found += (switch, taught.alpha, taught.beta, taught.loss, taught.block - 1, taught.aggregation)
    assert found == PAPER[preset, student]
    assert said["forms"] == ["distilled", "distilled-student"]  # the paper's form, for both students
    assert (run["clip"], run["windows"], shape["length"], taught.gamma) == (0.5, "last", 50, 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("04-distillation: {sasrec: {model: {head: 2}}}", '"model.head" is not a setting (did you mean "heads"?)'),
        ("04-distillation: {students: [SASRec, BERT4Rec], bert4rec: {epoch: 3}}", '"epoch" is not a setting'),
        ("01-data: {protocol: leave_one}", "leave_one"),
        ("05-ablations: {losses: [huber]}", "huber"),
        ("05-ablations: {sources: [profil]}", "one of \"sources\" of 05 is 'profil'"),
        ("01-data: {dataset: ../mine}", "cannot name a data set"),
        ("02-profiles: {sample: 30}", '"sample" is 30; 03-embeddings needs 66'),
        ("02-profiles: {style: grounde}", '"grounde" is not a style'),
        ("02-profiles: {llm: smollm2-135}", '"smollm2-135" is not a known model'),
        ("02-profiles: {llm: facts, style: long}", "is 'long'; choose one of grounded"),
        ("03-embeddings: {reducer: tsne}", "\"reducer\" is 'tsne'; choose one of"),
        ("03-embeddings: {everyone: [profile]}", "a teacher without an LLM is 'profile'"),
        ("04-distillation: {sources: [shuffled]}", "a teacher without an LLM is 'shuffled'"),
        ("04-distillation: {students: [GRU4Rec]}", "\"students\" of 04 is 'GRU4Rec'; choose one of SASRec, BERT4Rec"),
        ("04-distillation: {bert4rec: {epochs: 3}}", "04 sets 'bert4rec', but \"students\" does not name BERT4Rec"),
        ("04-distillation: {students: []}", '"students" of 04 is empty; name one or more of SASRec, BERT4Rec'),
        ("04-distillation: {students: [BERT4Rec]}", "\"student\" of 05 is 'SASRec'; choose one of BERT4Rec"),
        ("06-cold-start: {lead: GRU}", "\"lead\" of 06 is 'GRU'; choose one of SASRec"),
        ("04-distillation: {sasrec: {model: 3}}", 'SASRec: "model" = 3: input should be a dictionary'),
        ("04-distillation: {forms: [distiled]}", "\"forms\" of 04 is 'distiled'"),
        ("04-distillation: {forms: [GRU distilled]}", "\"forms\" of 04 is 'GRU distilled'"),
        ("04-distillation: {forms: [BERT4Rec distilled], students: [SASRec]}", "04 is 'BERT4Rec distilled'"),
        ("04-distillation: {forms: [SASRec BERT4Rec distilled]}", "04 is 'SASRec BERT4Rec distilled'"),
        ("04-distillation: {seeds: []}", '"seeds" of 04 is []; whole numbers'),
        ("04-distillation: {seeds: [0, 0]}", '"seeds" of 04 is [0, 0]; whole numbers'),
        ("05-ablations: {budgets: [0]}", '"budgets" of 05 is [0]; shares of the epochs above 0'),
        ("06-cold-start: {also: [GRU]}", "one of \"also\" of 06 is 'GRU'; choose one of SASRec"),
        ("05-ablations: {cluster: loki}", 'cluster "loki": choose loky, ray, dask'),
    ],
)
def test_a_later_chapters_typo_is_found_before_the_first_runs(home, text, message):
    (home / "presets" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        presets.check_preset("mine")


def test_a_typo_stops_what_make_runs_before_every_chapter_and_nothing_is_no_typo(home, monkeypatch):
    (home / "presets" / "mine.yaml").write_text("05-ablations: {losses: [huber]}")
    monkeypatch.setattr("sys.argv", ["book.py", "sections", "--preset", "mine"])
    with pytest.raises(SystemExit, match="huber"):
        book.main()
    assert not [*home.rglob("*.section")]
    (home / "presets" / "mine.yaml").write_text("")
    presets.check_preset("mine")
