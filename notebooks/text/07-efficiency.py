# %% [markdown]
# # 7 · What do training and serving cost?
#
# IDGenRec (Tan et al., 2024), which the paper compares with, needs a language model at serving time: it gives every
# item a textual id and recommends by generating one. The students of chapter 4 serve without an LLM: the teacher has a
# one-off cost before training and a cost during training. Which ranks better, what does each cost, how long does a
# request take, and what are the limits of one machine?

# %% tags=["parameters"]
preset = "default"
model = "SASRec"
form = "plain"
seed = 0
sources = []
cases = 0
draw = 0
idgenrec_seeds = [0]
without_user_ids = False
idgenrec = {
    "layers": 2,
    "width": 64,
    "heads": 2,
    "tag_epochs": 4,
    "rounds": 2,
    "recommender_epochs": 3,
    "samples": 3000,
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
from seqbook.reporting import efficiency
from seqbook import explorer as explore
from seqbook.idgenrec import train as idgenrun
from seqbook.reporting import report
from seqbook.reporting.figures import dots, forest
from seqbook.reporting.figures import growth as draw_growth
from seqbook.idgenrec import rivals
from seqdistill.serving import export as serving
from seqbook.idgenrec import trie
from seqdistill.io import ROOT, UserError, load_json, load_table, outputs_dir, save_csv, table_key
from seqdistill.evaluation.ranking import load_ranks
from seqdistill.evaluation.significance import compare
from seqdistill.training.train import load_training_data

home, bench = outputs_dir(preset), ROOT / "outputs" / "bench"
artifacts, figures = home / "artifacts", home / "figures"
report.style()

# %% [markdown]
# ## The generative baseline: IDGenRec
#
# Data, split and test cases are those of chapter 4. Generating a list is slow, so one case per user is decoded: the
# last target. If `cases` is above 0, that many users are drawn at random. Every system is compared on these cases
# alone.

# %%
data, events = load_training_data(artifacts), table_key(artifacts / "events.parquet")
items, users = (load_table(artifacts / f"{name}.parquet", events) for name in ("items", "users"))
texts = teachers.item_texts(items)
chosen = rivals.last_cases(data.test, cases, draw)
print(f"{len(chosen):,} of {len(data.test):,} cases, {len(items):,} items")

# %% [markdown]
# ## How IDGenRec generates ids and is trained
#
# A *generator*, a T5 that writes tags, gives every item an id of a few words; no two items share an id. The
# *recommender*, another T5, reads a prompt with a user id and the ids of the latest items, and generates the id of the
# next one. The two alternate in training. First the recommender is trained on the current ids. Then the generator is
# trained through the frozen recommender, which takes the generator's *distribution* over tokens times its own
# embedding matrix as input. Then the generator writes all ids again.
#
# The generator writes the user id from the ids of the user's training events before the target only. The released
# version uses all events of the user, so the user id may contain the target. We train that version too, as
# `IDGenRec leaking`; preset `full` also trains one without user ids.
#
# Ten prompts are used in training. The test uses an eleventh, not seen in training. If `recommender` and `generator`
# name no weights on the hub, both are trained from scratch: the first ids are the rarest words of an item's text, the
# generator first learns to write those, and it may only write words that occur in its input.

# %%
jobs = rivals.variants(idgenrec, idgenrec_seeds, "07-efficiency", without_user_ids)
runs = idgenrun.sweep(jobs, data, texts, chosen, home / "runs")
main_run = runs["IDGenRec", idgenrec_seeds[0]]
print(f"{len(runs)} runs, {main_run['parameters']:,} parameters each")

# %% [markdown]
# ## Textual ids of items
#
# The ids after the last round, for the items most frequent in training.

# %% tags=["nbval-ignore-output"]
names = load_json(main_run["folder"] / "ids.json")["ids"]
often = pd.Series(data.train.items).value_counts().sort_index().sort_values(ascending=False, kind="stable")
common = often.index[:10].to_numpy()
pd.DataFrame({"text": [texts[item - 1] for item in common], "id": [names[item - 1] for item in common]})

# %% [markdown]
# ## Constrained generation
#
# A trie of all ids defines which tokens may follow those already generated. Each leaf is one item, so beam search
# always ends at an item of the catalogue. $K$ beams give a list of $K$ items, the most probable first; the score of an
# item is the sum of its tokens' log-probabilities.

# %% tags=["nbval-ignore-output"]
lengths = pd.Series([len(name.split()) for name in names])
following, _ = trie.trie([name.split() for name in names], "end")
print(f"{len(set(names)):,} ids of {lengths.mean():.2f} words on average; {len(following[()]):,} first words")

# %% [markdown]
# ## Training loss and cost
#
# The loss after every pass in nats per token, averaged over the variants. A pass of the recommender uses a sample of
# the prefixes, not all of them.

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
# ## Comparison with the students
#
# The rank of the target is its position in the list. A target that is not in the list is a miss: it adds nothing to
# Recall@10 and NDCG@10. With seen items excluded, they are removed from the list, which is not refilled. Every system
# is tested against `IDGenRec` on the same cases.

# %%
seeds = load_json(artifacts / "student.json")["seeds"]
ranked = rivals.students(home, data, seeds, sources, events)
ranked = {name: [frame.iloc[chosen].reset_index(drop=True) for frame in frames] for name, frames in ranked.items()}
for (name, _), run in runs.items():
    ranked.setdefault(name, []).append(load_ranks(run["folder"] / "ranks.parquet"))
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
# Seen items included:

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
figure = forest(labelled, "Gain over IDGenRec, last target of each user, seen items included")
report.show_figure(figure, labelled, figures / "idgenrec.png")

# %% [markdown]
# ## The effect of the leak
#
# Model, training and cases are the same; only the user id may contain the target.

# %%
scores = kept.set_index("variant")["ndcg@10"]
rated = labelled.set_index("variant")[["recall@10", "ndcg@10"]].to_dict("index")
clean, leaking = scores["IDGenRec"], scores["IDGenRec leaking"]
verdict = labelled.set_index("variant").loc["IDGenRec leaking", "verdict"]
Markdown(f"NDCG@10 **{leaking:.4f}** with the leak, **{clean:.4f}** without: *{verdict}*.")

# %% [markdown]
# ## What does the teacher add to training?
#
# `make bench` measures this with the default preset's settings of both students; this section reads the results: CPU
# seconds of one thread on two shared cores, so ratios are meaningful and seconds are those of this machine. Epochs with
# and without teacher alternate, and the order within a pair changes; every pair of neighbours gives a ratio. `phase_1`
# is the geometric mean of the ratios of CPU time with its 95 % interval, `run` the ratio for a whole run, of which
# phase 1 is `share`. The aim is at most 5 % more; it counts as met or missed only if the whole interval agrees.

# %%
pairs = report.read_table("overhead", bench)
added = save_csv(efficiency.overheads(pairs), home / "tables" / "overhead.csv")
report.format_table(added)

# %%
more = pairs.assign(more=100 * (pairs["distilled_cpu_s"] / pairs["plain_cpu_s"] - 1))
title, ylabel = "Added CPU time of an epoch of phase 1", "added CPU time, % of plain"
figure = dots(more, "pair", "more", "model", title, "pair of epochs", ylabel)
ratios = ", ".join(f"{row.model} {row.phase_1:.4f} ({row.aim_phase_1})" for row in added.itertuples())
text = f"CPU time of an epoch of phase 1 over plain, geometric mean (aim: at most {efficiency.AIM}): {ratios}."
report.show_figure(figure, pairs, figures / "overhead.png", text)

# %% [markdown]
# ## What does the teacher cost before training?
#
# The LLM writes the profiles, the encoder encodes them, and UMAP reduces the vectors. None of this is repeated when a
# student is trained again or served. The seconds for the profiles are the summed times of the answers, divided by the
# number of parallel requests. UMAP's seconds are for the largest size that `make bench-umap` fits.

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
# Ten items for every test case, in batches of 256 and one at a time. Each student runs in its own process, and the
# students alternate. Memory is the peak of the process, libraries included. With the default preset's data the table
# includes IDGenRec. It decodes only the cases above, once, in batches of 32; its percentiles are over 50 requests.
# NDCG@10 is on these cases, for the systems that this preset trained; compare seconds only per case.
#
# The cost of IDGenRec's epoch is that of a run above, scaled from the sampled prefixes to all of them. The run was
# trained on this machine, the students were measured by `make bench-serving`, perhaps on another. `machine` scales the
# seconds to that one: the ratio of the two machines' CPU seconds for an epoch of plain SASRec. Here as many students
# are timed as there are runs above, one per core as those were, since runs that share a processor slow each other.

# %%
rounds = report.read_table("serving", bench)
here = (rounds["cases"] == len(data.test)).all()
first = {name: run for (name, one), run in runs.items() if one == idgenrec_seeds[0] and here}
decoded = report.read_table("rival", bench).set_index("system").drop(columns=["load", "date"]).to_dict("index")
there = pairs.loc[pairs["model"] == "SASRec", "plain_cpu_s"].median()
machine = there / rivals.student_seconds(home, data, len(runs)) if first else 1.0
costs = {name: rivals.cost(run, machine) | decoded[name] for name, run in first.items()}
systems = efficiency.table(pairs, rounds, costs)

# %%
named = kept[kept["variant"].isin(efficiency.NAMES) & here].to_dict("records")
quality = {efficiency.NAMES[row["variant"]].format(row["model"]): row["ndcg@10"] for row in named}
quality |= {name: rated[name]["ndcg@10"] for name in first}
if here:
    systems["ndcg@10"] = systems["system"].map(quality)
else:
    print("The students were measured on the default preset's cases, not on these: IDGenRec is left out of the table.")
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
    f"Load average of the two cores at the start: **{rounds['load'].max():.4f}**. If other work shares them, the "
    "99th percentiles measure waiting for a core, not the student; CPU seconds exclude waiting."
)

# %% [markdown]
# A distilled student has the same number of weights and the same graph as the plain one. A difference in their seconds
# means that the machine was busier; the paired comparison of single requests below is more precise. The paper's
# seconds were measured on other data and machines, so only ratios can be compared:

# %%
times = save_csv(efficiency.ratios(systems, report.paper("efficiency")), home / "tables" / "efficiency-ratios.csv")
report.format_table(times)

# %% [markdown]
# IDGenRec trains on each prefix separately, a student on all positions of a history in one pass, so an epoch over all
# prefixes takes longer. We do not know what an epoch of IDGenRec includes in the paper, so the training ratio is that
# of these two implementations.

# %%
rows = systems.dropna(subset=["ndcg@10", "infer_cpu_s"])
rows = rows.assign(ms=1000 * rows["infer_cpu_s"] / rows["infer_cases"])
labels = "Quality and cost of inference", "CPU milliseconds per case, decoded in batches", "NDCG@10"
figure = dots(rows, "ms", "ndcg@10", "system", *labels, style="system", log=True)
text = ", ".join(f"{row.system} {row.ms:.4f}" for row in rows.itertuples())
text = f"CPU milliseconds per case: {text}. For differences in quality see the tests above."
report.show_figure(figure, systems, figures / "efficiency.png", text)

# %% [markdown]
# ## What is served?
#
# The student of one seed, in the form selected by `form`, is exported with `torch.export` to ONNX, which runs without
# PyTorch. Its input is item ids, for any number of histories up to the student's length; its output is scores of the
# whole catalogue.

# %%
net = explore.students(home, model, seed, form)[form]
run = serving.session(serving.save_onnx(net, home / "artifacts" / "student.onnx"))

# %% [markdown]
# Does it agree with PyTorch? On every test history:

# %%
worst, same = serving.agreement(net, run, data.test.histories)
print(f"every score within 1e-4: {worst < 1e-4}; the ten best are the same for {same:.0%} of the cases")

# %% [markdown]
# A request uses the data set's own item ids; seen items are excluded. Here is the history of the first test case.

# %%
shop = serving.served(run, net.max_history, items)
history = shop.items.set_index("item").loc[data.test.histories.row(0)]
print(", ".join(history["title"].tail(5)))

# %% tags=["nbval-ignore-output"]
serving.top(shop, history["item_id"].tolist()).set_index("item_id")

# %% [markdown]
# Ids that are not in the catalogue are rejected by name, as is an empty history.

# %%
for wrong in ([history["item_id"].iloc[0], "no-such-item"], []):
    try:
        serving.top(shop, wrong)
    except UserError as error:
        print(error)

# %% [markdown]
# ## Are int8 weights enough?
#
# ONNX Runtime's dynamic quantisation stores weights as int8. `make bench` ranked the whole test set with both files of
# each plain student; the test is paired over users.

# %%
bits = save_csv(report.read_table("int8", bench), home / "tables" / "int8.csv")
report.format_table(bits, ["variant", "verdict", "cases", "file_mb", "ndcg@10", "delta_ndcg@10"])

# %% [markdown]
# ## How long does a request take?
#
# One history of random length at a time, ten items returned. Every system answers the same requests in random order
# and is compared with `plain` request by request. We compare CPU time, because other work on the machine lengthens the
# tail of wall time. `plain again` is the plain student loaded twice: its difference from `plain` is measurement noise.

# %%
asked = save_csv(report.read_table("latency", bench), home / "tables" / "latency.csv")
quantiles = [f"{kind}_p{part}_ms" for kind in ("cpu", "wall") for part in (50, 95, 99)]
report.format_table(asked, ["system", "model", "requests", *quantiles])

# %%
percent = asked.dropna(subset="ratio").assign(system=asked["model"] + " " + asked["system"])
percent = percent.assign(more=100 * (percent["ratio"] - 1))
percent[["ci_low", "ci_high"]] = 100 * (percent[["ci_low", "ci_high"]] - 1)
xlabel = "added CPU time, % of plain, 95 % interval over requests"
figure = forest(percent, "CPU time of one request, against the plain student", "system", "more", xlabel)
text = "; ".join(f"{row.system} {row.more:+.4f} % (p = {row.p:.4f})" for row in percent.itertuples())
report.show_figure(figure, percent, figures / "latency.png", f"Added CPU time over plain: {text}.")

# %% [markdown]
# For int8, the time of a request relative to the same model in fp32, both in ONNX Runtime:

# %%
median = asked.pivot_table(index="model", columns="system", values="cpu_p50_ms")
both = (median["plain, ONNX int8"] / median["plain, ONNX"]).items()
Markdown("\n".join(f"* {name}: **{ratio:.4f}** times the CPU time" for name, ratio in both))

# %% [markdown]
# ## How does cost scale?
#
# We time a training step and a ranking with one size varied and the others fixed, with up to as many items as
# Amazon-M2. Histories are synthetic, since cost does not depend on their content. A step takes 64 histories of width
# 64, with 50 events unless length varies; the epoch by users has batches of 256 and sessions of six events. The
# exponent $b$ of $\text{cost} = a \cdot \text{size}^b$ is the slope on logarithmic axes: 1 is proportional; below 1 a
# fixed cost still dominates.

# %%
sizes = save_csv(report.read_table("growth", bench), home / "tables" / "growth.csv")
slopes = save_csv(efficiency.exponents(sizes), home / "tables" / "growth-exponents.csv")
print(f"load average of the two cores at the start: {sizes['load'].iloc[0]:.4f}")
report.format_table(slopes, ["cost", "size", "loss", "points", "exponent", "ci_low", "ci_high"])

# %%
text = "CPU seconds of a training step by items and by length, and of an epoch by users, on logarithmic axes."
report.show_figure(draw_growth(sizes), sizes, figures / "growth.png", text)

# %% [markdown]
# ## What are the limits of one machine?
#
# We extrapolate the measured constants to the users and items of Amazon-M2, and name an alternative for each cost that
# becomes too high. Hours are for one thread, except those of the profiles, which are for an LLM server on this
# machine. Nothing below was run at that size as a whole. `exchange_share` is the time to exchange the gradients of all
# item vectors over a network of `bandwidth` bytes per second, as a share of the step measured here (a faster processor
# makes it larger). If it is large, more machines help little.

# %%
bandwidth = 1.25e9
theirs = report.paper("data").set_index("dataset").loc["amazon-m2"]
far = save_csv(efficiency.reach(sizes, once, int(theirs["users"]), bandwidth), home / "tables" / "reach.csv")
report.format_table(far)

# %% [markdown]
# Runs are independent, so variants and seeds spread over a Ray cluster (`cluster` of chapter 4) without loss. One run
# spreads over GPUs with `accelerate launch`, which trains the same model as one process. Most of the cost is in the
# profiles, which are generated once, by vLLM servers behind one address.

# %%
summary = {"idgenrec": rated, "overhead": added.set_index("model")["phase_1"].to_dict()}
summary |= {"latency": {row.system: row.ratio for row in percent.itertuples()}}
report.record_metrics(home, "07-efficiency", summary)

# %% [markdown]
# ## Limits
#
# All seconds are from one kind of processor, shared with other work; ratios within a run are reliable, seconds are
# not. Single requests were timed in the serving process, without a web server, its queue and a network. Overhead was
# measured for an epoch of phase 1 with the paper's form of the method and one profile per user. Exponents are fitted
# to few sizes. Hours for Amazon-M2 assume cost proportional to users, and the LLM, encoder and processor measured
# here.
#
# The published IDGenRec starts from weights pretrained on English; ours is trained from scratch, smaller and for a
# shorter time. Its row shows what this much computation achieves, not what IDGenRec can achieve. The last epoch is
# evaluated; none is chosen by validation. The students were trained on the same events, for as many epochs as in
# chapter 4. The user id is written again only when the history has doubled; the released version writes one for each
# user. With one seed of each variant in `idgenrec_seeds` there is no verdict between variants.
