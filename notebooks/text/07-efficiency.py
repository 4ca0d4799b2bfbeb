# %% [markdown]
# # 7 · What does it cost, and what is served?
#
# The paper's rival, IDGenRec (Tan et al., 2024), takes a language model along: it names every item in words and
# recommends by writing a name. The students of chapter 4 leave theirs behind: the teacher must be paid for once, and
# while the student trains. Who ranks better, what does each cost, how long does a request take, and where does one
# machine end?

# %% tags=["parameters"]
preset = "default"
model = "SASRec"
form = "distilled"
seed = 0
sources = []
cases = 0
draw = 0
idgenrec_seeds = [0]
idgenrec = {
    "layers": 2,
    "width": 64,
    "heads": 2,
    "tag_epochs": 4,
    "rounds": 2,
    "recommender_epochs": 3,
    "samples": 6000,
    "generator_samples": 256,
    "batch": 32,
    "recommender_lr": 0.002,
    "generator_lr": 0.0001,
    "beams": 20,
}

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from seqdistill.embeddings import teachers
from seqdistill.reporting import efficiency
from seqdistill.serving import explorer as explore
from seqdistill.idgenrec import train as idgenrun
from seqdistill.reporting import report
from seqdistill.reporting.figures import dots, forest
from seqdistill.reporting.figures import growth as draw_growth
from seqdistill.idgenrec import rivals
from seqdistill.serving import export as serving
from seqdistill.idgenrec import trie
from seqdistill.io import ROOT, UserError, load_json, load_table, outputs_dir, save_csv, table_key
from seqdistill.evaluation.significance import compare
from seqdistill.training.train import load_training_data

home, bench = outputs_dir(preset), ROOT / "outputs" / "bench"
artifacts, figures = home / "artifacts", home / "figures"
report.style()

# %% [markdown]
# ## The rival
#
# Data, split and test cases are those of chapter 4. Writing a list takes long, so one case a user is decoded: the last
# target. `cases` above 0 draws so many users. Every system is compared on these cases alone.

# %%
data, events = load_training_data(artifacts), table_key(artifacts / "events.parquet")
items, users = (load_table(artifacts / f"{name}.parquet", events) for name in ("items", "users"))
texts = teachers.item_texts(items)
chosen = rivals.last_cases(data.test, cases, draw)
print(f"{len(chosen):,} of {len(data.test):,} cases, {len(items):,} items")

# %% [markdown]
# ## How it names and learns
#
# A *generator*, a T5 that writes tags, names every item by a few words; no two items share a name. The *recommender*,
# another T5, reads a prompt with a user id and the names of the latest items, and writes the name of the next. The two
# are trained in turn: the recommender on all names as they are; then the generator, through the recommender, whose
# weights rest, and which reads the generator's *distribution* over tokens times its own embedding matrix; then the
# generator names all items anew.
#
# The user id is written by the generator from the names of the user's training events before the target, and from no
# others. The released version writes it from all events of the user, so that the answer may stand in the question.
# That is trained here, too, as `IDGenRec leaking`; and a third without user ids.
#
# There are ten prompts to train with. Testing uses an eleventh, which training has not seen. Where `recommender` and
# `generator` name no weights of the hub, both start from nothing: the first names are the rarest words of an item's
# text, the generator first learns to write those, and may write no words that it does not read.

# %%
jobs = rivals.variants(idgenrec, idgenrec_seeds, "07-efficiency")
runs = idgenrun.sweep(jobs, data, texts, chosen, home / "runs")
main_run = runs["IDGenRec", idgenrec_seeds[0]]
print(f"{len(runs)} runs, {main_run['parameters']:,} parameters each")

# %% [markdown]
# ## What items are called
#
# The names after the last round, for the items chosen most often in training.

# %% tags=["nbval-ignore-output"]
names = load_json(main_run["folder"] / "ids.json")["ids"]
often = pd.Series(data.train.items).value_counts().sort_index().sort_values(ascending=False, kind="stable")
common = often.index[:10].to_numpy()
pd.DataFrame({"text": [texts[item - 1] for item in common], "id": [names[item - 1] for item in common]})

# %% [markdown]
# ## Only items can be written
#
# A trie of all names says which tokens may follow those already written. Each of its leaves is one item, so that beam
# search ends in the catalogue, whatever the model would rather have said. $K$ beams give the list of $K$ items, the
# most probable name first; the score of a name is the sum of its tokens' log-probabilities.

# %% tags=["nbval-ignore-output"]
lengths = pd.Series([len(name.split()) for name in names])
following, _ = trie.trie([name.split() for name in names], "end")
print(f"{len(set(names)):,} names of {lengths.mean():.2f} words; {len(following[()]):,} words can begin one")

# %% [markdown]
# ## What it learned
#
# The loss after every pass, a mean over the variants, in nats a token. A recommender's pass takes the prefixes drawn
# for it, not all there are.

# %%
curve = pd.DataFrame(
    {"step": step, **{name: log[name] for name in ("trained", "loss")}}
    for run in runs.values()
    for step, log in enumerate(run["history"], 1)
)
curve = curve.groupby(["step", "trained"])["loss"].mean().reset_index()
report.format_table(curve, list(curve.columns))

# %% tags=["nbval-ignore-output"]
spending = pd.DataFrame([{"variant": name, **run, **rivals.cost(run)} for (name, _), run in runs.items()])
counts = ["prefixes", "prefixes_per_epoch", "infer_cases"]
report.format_table(spending, ["variant", *counts, "train_cpu_s_per_epoch", "infer_cpu_s", "request_s"])

# %% [markdown]
# ## Beside the students
#
# The rank of the target is its place in the list; a target that the list leaves out is a miss, which counts nothing
# for Recall@10 and NDCG@10. Where seen items are excluded, they are struck from the list, which is
# not refilled. Every system is tested against `IDGenRec` on the same cases.

# %%
seeds = load_json(artifacts / "student.json")["seeds"]
ranked = rivals.students(home, data, seeds, sources, events)
ranked = {name: [frame.iloc[chosen].reset_index(drop=True) for frame in frames] for name, frames in ranked.items()}
for (name, _), run in runs.items():
    ranked.setdefault(name, []).append(load_table(run["folder"] / "ranks.parquet"))
against = {name: "IDGenRec" for name in ranked if name != "IDGenRec"}
both = pd.concat([compare(ranked, against, seen, last=False) for seen in ("included", "excluded")])

# %%
dataset, protocol = users[["dataset", "protocol"]].iloc[0]
words = both["variant"].str.split(" ", n=1, expand=True)
table = both.assign(dataset=dataset, protocol=f"{protocol}/last", model=words[0])
table["variant"] = words[1].where(table["model"] != "IDGenRec", both["variant"])
weights = ", ".join(idgenrec[name] for name in ("recommender", "generator") if name in idgenrec)
table["weights"] = table["model"].map({"IDGenRec": weights or "trained from scratch"}).fillna("")
first = ["dataset", "protocol", "model", "variant"]
table = save_csv(table[[*first, *table.columns.difference(first, sort=False)]], home / "tables" / "idgenrec.csv")

# %% [markdown]
# Seen items kept as candidates:

# %%
columns = ["variant", "verdict", "model", "weights", "cases", "ndcg@10", "delta_ndcg@10"]
kept = table[table["seen"] == "included"]
report.format_table(kept, columns)

# %% [markdown]
# Seen items excluded:

# %%
report.format_table(table[table["seen"] == "excluded"], columns)

# %%
labelled = kept.assign(variant=kept["model"].where(kept["model"] != "IDGenRec", "") + " " + kept["variant"])
labelled["variant"] = labelled["variant"].str.strip()
figure = forest(labelled, "Gain over IDGenRec, last target of each user, seen included")
report.show_figure(figure, labelled, figures / "idgenrec.png")

# %% [markdown]
# ## What the leak is worth
#
# The same model, the same training, the same cases; only the user id may have read the answer.

# %%
scores = kept.set_index("variant")["ndcg@10"]
rated = labelled.set_index("variant")[["recall@10", "ndcg@10"]].to_dict("index")
clean, leaking = scores["IDGenRec"], scores["IDGenRec leaking"]
verdict = labelled.set_index("variant").loc["IDGenRec leaking", "verdict"]
Markdown(f"NDCG@10 **{leaking:.4f}** with the leak, **{clean:.4f}** without: *{verdict}*.")

# %% [markdown]
# ## What does the teacher add to training?
#
# What is measured here is measured by `make bench`, on the students of the default preset, and only read: CPU
# seconds of one thread, on two shared cores, so that ratios count and seconds are those of this machine. Epochs with
# and without teacher take turns, and who begins changes; every pair of neighbours gives a ratio. `phase_1` is the
# geometric mean of the ratios of CPU time with its 95 % interval, `run` that of a whole run, of which phase 1 is
# `share`. The aim is at most 5 % more; it is met or missed where the whole interval says so.

# %%
pairs = report.read_table("overhead", bench)
added = save_csv(efficiency.overheads(pairs), home / "tables" / "overhead.csv")
report.format_table(added)

# %%
more = pairs.assign(more=100 * (pairs["distilled_cpu_s"] / pairs["plain_cpu_s"] - 1))
title, ylabel = "What the teacher adds to an epoch of phase 1", "CPU time over plain, %"
figure = dots(more, "pair", "more", "model", title, "pair of epochs", ylabel)
ratios = ", ".join(f"{row.model} {row.phase_1:.4f} ({row.aim_phase_1})" for row in added.itertuples())
text = f"CPU time of an epoch of phase 1 over plain, geometric mean (aim: at most {efficiency.AIM}): {ratios}."
report.show_figure(figure, pairs, figures / "overhead.png", text)

# %% [markdown]
# ## What does the teacher cost once?
#
# The LLM reads facts or histories and writes, the encoder reads what it wrote, UMAP reduces: none of it is repeated
# when a student trains again, and none of it is needed to serve. The seconds of the profiles are the summed times of
# the answers, over the number that is written at once. UMAP's seconds are those of the largest size that
# `make bench-umap` fits.

# %%
said = load_json(artifacts / "llm.json")
written = report.read_table("profiles", home / "tables").set_index(["llm", "style"]).loc[(said["llm"], said["style"])]
written["llm"] = said["llm"]
umap, encoder = report.read_table("umap", bench), report.read_table("teacher", bench).iloc[0]
umap = umap.loc[umap["users"].idxmax()]

# %%
tokens = written["prompt_tokens"] + written["output_tokens"]
steps = [
    (f"profiles, {written['llm']}", int(written["covered"]), tokens, written["seconds"] / said["parallel"]),
    (f"encoder, {encoder['encoder']}", int(encoder["texts"]), np.nan, encoder["cpu_s"]),
    ("UMAP", int(umap["users"]), np.nan, umap["fit_cpu_s"]),
]
once = pd.DataFrame(steps, columns=["step", "users", "tokens", "seconds"])
once["seconds_per_user"] = once["seconds"] / once["users"]
report.format_table(save_csv(once, home / "tables" / "teacher-cost.csv"))

# %% tags=["nbval-ignore-output"]
one = pairs.groupby("model")["plain_wall_s"].median()
paid = written["covered"] * once["seconds_per_user"].iloc[:2].sum()
lines = [
    f"* as long as **{paid / seconds:,.0f}** epochs of the default preset's {name}" for name, seconds in one.items()
]
Markdown(f"Profiles and vectors of {written['covered']:,} users take {paid / 3600:.4f} hours:\n\n" + "\n".join(lines))

# %% [markdown]
# ## What does inference cost?
#
# Ten items for every case of the test set, in batches of 256 and one at a time, each student in a process of its own,
# the students in turn. The memory is the process's peak, libraries included. In the default preset, whose students
# these are, IDGenRec stands beside them: an epoch is one of the runs above, scaled from the drawn prefixes to all of
# them; it decodes the cases above alone, 32 at a time and once, its percentiles are those of 50 requests, and NDCG@10
# is that of these cases for all systems: seconds compare only per case.

# %%
rounds = report.read_table("serving", bench)
here = (rounds["cases"] == len(data.test)).all()
first = {name: run for (name, one), run in runs.items() if one == idgenrec_seeds[0] and here}
decoded = report.read_table("rival", bench).set_index("system").drop(columns=["load", "date"]).to_dict("index")
systems = efficiency.table(pairs, rounds, {name: rivals.cost(first[name]) | decoded[name] for name in first})
named = kept[kept["variant"].isin(efficiency.NAMES) & here].to_dict("records")
quality = {efficiency.NAMES[row["variant"]].format(row["model"]): row["ndcg@10"] for row in named}
quality |= {name: rated[name]["ndcg@10"] for name in first}
systems["ndcg@10"] = systems["system"].map(quality).fillna(systems["ndcg@10"])
if not here:
    print("The students were measured on the default preset's cases, not on these: IDGenRec is not set beside them.")
_ = save_csv(systems, home / "tables" / "efficiency.csv")

# %%
spent = [
    "train_cpu_s_per_epoch",
    "infer_cases",
    "infer_cpu_s",
    "infer_cpu_s_batch1",
    "p50_ms",
    "p99_ms",
    "peak_rss_mb",
    "parameters",
]
report.format_table(systems, ["system", *spent])

# %%
Markdown(
    f"Load average of the two cores at the start: **{rounds['load'].max():.4f}**. Where other work shares them, the "
    "99th percentiles are those of waiting for a core, not of the student; CPU seconds leave waiting out."
)

# %% [markdown]
# A distilled student has as many weights as the plain one and the same graph, so that where their seconds differ, the
# machine was busier: the paired comparison of single requests below tells them apart better. Beside the paper's
# seconds, which were measured on other data and machines, only ratios can stand:

# %%
times = save_csv(efficiency.ratios(systems, report.paper("efficiency")), home / "tables" / "efficiency-ratios.csv")
report.format_table(times)

# %% [markdown]
# IDGenRec learns from every prefix by itself, a student from all positions of a history in one pass: an epoch over all
# prefixes is that much longer. What an epoch of IDGenRec holds in the paper we do not know, so that the ratio of
# training is that of these two implementations.

# %%
rows = systems.dropna(subset=["ndcg@10", "infer_cpu_s"])
rows = rows.assign(ms=1000 * rows["infer_cpu_s"] / rows["infer_cases"])
labels = "Quality and cost of inference", "CPU milliseconds per case, decoded in batches", "NDCG@10"
figure = dots(rows, "ms", "ndcg@10", "system", *labels, style="system", log=True)
text = ", ".join(f"{row.system} {row.ms:.4f}" for row in rows.itertuples())
text = f"CPU milliseconds of a case: {text}. Tests say which differ in quality, not this figure."
report.show_figure(figure, systems, figures / "efficiency.png", text)

# %% [markdown]
# ## What is served?
#
# The student of one seed, in the form that `form` names, exported with `torch.export` and written as ONNX, which runs
# where no PyTorch is: item ids in, scores of the whole catalogue out, any number of histories of any length that the
# student reads.

# %%
net = explore.students(home, model, seed, form)[form]
run = serving.session(serving.save_onnx(net, home / "artifacts" / "student.onnx"))

# %% [markdown]
# It must say what PyTorch says. On every test history:

# %%
worst, same = serving.agreement(net, run, data.test.histories)
print(f"every score within 1e-4: {worst < 1e-4}; the ten best are the same for {same:.0%} of the cases")

# %% [markdown]
# A request names items by the data set's own ids; what the user has seen is excluded. Here the history of the first
# test case.

# %%
shop = serving.served(run, net.max_history, items)
history = shop.items.set_index("item").loc[data.test.histories.row(0)]
print(", ".join(history["title"].tail(5)))

# %% tags=["nbval-ignore-output"]
serving.top(shop, history["item_id"].tolist()).set_index("item_id")

# %% [markdown]
# Ids that the catalogue does not have are refused by name, and so is an empty history.

# %%
for wrong in ([history["item_id"].iloc[0], "no-such-item"], []):
    try:
        serving.top(shop, wrong)
    except UserError as error:
        print(error)

# %% [markdown]
# ## Do eight bits suffice?
#
# ONNX Runtime's dynamic quantisation stores weights as int8. The plain students of chapter 4, the same weights, ranked
# the whole test set through both files; the test pairs users.

# %%
bits = save_csv(report.read_table("int8", bench), home / "tables" / "int8.csv")
report.format_table(bits, ["variant", "verdict", "cases", "file_mb", "ndcg@10", "delta_ndcg@10"])

# %% [markdown]
# ## How long does a request take?
#
# One history at a time, of random length, ten items out. Every system answers the same requests, in random order, and
# is compared with `plain` request by request, by CPU time: other work on the machine makes wall time long in its tail.
# `plain again` is the plain student loaded twice; it shows what a difference without a cause looks like.

# %%
asked = save_csv(report.read_table("latency", bench), home / "tables" / "latency.csv")
quantiles = [f"{kind}_p{part}_ms" for kind in ("cpu", "wall") for part in (50, 95, 99)]
report.format_table(asked, ["system", "model", "requests", *quantiles])

# %%
percent = asked.dropna(subset="ratio").assign(system=asked["model"] + " " + asked["system"])
percent = percent.assign(more=100 * (percent["ratio"] - 1))
percent[["ci_low", "ci_high"]] = 100 * (percent[["ci_low", "ci_high"]] - 1)
xlabel = "CPU time over plain, %, 95 % interval over requests"
figure = forest(percent, "One request, against the plain student", "system", "more", xlabel)
text = "; ".join(f"{row.system} {row.more:+.4f} % (p = {row.p:.4f})" for row in percent.itertuples())
report.show_figure(figure, percent, figures / "latency.png", f"CPU time over plain: {text}.")

# %% [markdown]
# And eight bits: the time of a request over that of the same file in fp32, both by ONNX Runtime.

# %%
median = asked.pivot_table(index="model", columns="system", values="cpu_p50_ms")
both = (median["plain, ONNX int8"] / median["plain, ONNX"]).items()
Markdown("\n".join(f"* {name}: **{ratio:.4f}** times the CPU time" for name, ratio in both))

# %% [markdown]
# ## What grows how?
#
# A training step, and a ranking, with one size varied and the others fixed, items up to Amazon-M2's; synthetic
# histories, since cost does not depend on what they hold. A step takes 64 histories of width 64, 50 events long where
# length does not vary; the epoch by users has batches of 256 and sessions of six events. The exponent $b$ of
# $\text{cost} = a \cdot \text{size}^b$ is the slope on logarithmic axes: 1 is proportional, below 1 something fixed
# still dominates.

# %%
sizes = save_csv(report.read_table("growth", bench), home / "tables" / "growth.csv")
slopes = save_csv(efficiency.exponents(sizes), home / "tables" / "growth-exponents.csv")
print(f"load average of the two cores at the start: {sizes['load'].iloc[0]:.4f}")
report.format_table(slopes, ["cost", "size", "loss", "points", "exponent", "ci_low", "ci_high"])

# %%
text = "CPU seconds of a training step by items and by length, and of an epoch by users, on logarithmic axes."
report.show_figure(draw_growth(sizes), sizes, figures / "growth.png", text)

# %% [markdown]
# ## Where does one machine end?
#
# The measured constants, carried to the users and items of Amazon-M2, and what takes over where they are too many:
# hours of one thread, but of the profiles' server, which is this machine. Nothing below was run at that size as a
# whole; `exchange_share` is the time that the gradients of all item vectors take over a network of `bandwidth` bytes
# per second, as a share of the step measured here (a faster processor makes it larger): where it is large, further
# machines bring little.

# %%
bandwidth = 1.25e9
theirs = report.paper("data").set_index("dataset").loc["amazon-m2"]
far = save_csv(efficiency.reach(sizes, once, int(theirs["users"]), bandwidth), home / "tables" / "reach.csv")
report.format_table(far)

# %% [markdown]
# Runs are independent, so that variants and seeds spread over a cluster with Ray (`cluster` of chapter 4) without
# loss; one run spreads over GPUs with `accelerate launch`, which trains the model that one process would. Profiles are
# the bulk: they want vLLM servers behind one address, and are asked once.

# %%
summary = {"idgenrec": rated, "overhead": added.set_index("model")["phase_1"].to_dict()}
summary |= {"latency": {row.system: row.ratio for row in percent.itertuples()}}
report.record_metrics(home, "07-efficiency", summary)

# %% [markdown]
# ## Limits
#
# All seconds are of one kind of processor, which other work shared; ratios within a run are safe, seconds are not.
# Single requests were timed in the process that serves them: a web server, its queue and its network come on top. An
# epoch of phase 1 is compared, with the paper's form of the method and one profile a user. Exponents rest on few
# sizes. Hours for Amazon-M2 assume that cost grows in proportion to users, and the LLM, encoder and processor that were
# measured here.
#
# The weights of the published IDGenRec know English before they see an item; a pair trained from scratch does not, and
# it is smaller and trained for less: its row says what this much computation buys, not what IDGenRec can reach. The
# last epoch is scored, none is chosen by validation. The students were trained on the same events, with as many epochs
# as chapter 4 gave them. The user id is written anew only when the history has doubled; the released version writes one
# for each user. One seed of each variant, where `idgenrec_seeds` has one, gives no verdict between them.

# %% tags=["nbval-ignore-output"]
print(report.cost())
