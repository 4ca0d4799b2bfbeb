# %% [markdown]
# # 7 · What does it cost to serve a language model instead?
#
# The students of chapter 4 leave the LLM behind. IDGenRec (Tan et al., 2024), the rival of the paper, takes one along:
# a language model names every item in words and recommends by writing a name. Does it rank better, and what does it
# cost?

# %% tags=["parameters"]
preset = "default"
seeds = [0, 1, 2, 3, 4]
arms = []
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
import pandas as pd
from IPython.display import Markdown
from seqdistill import arms as teachers
from seqdistill import idgenrun, report, rivals, trie
from seqdistill.artifacts import load_json, load_table, outputs_dir, save_csv, table_key
from seqdistill.significance import compare
from seqdistill.train import load_problem

home = outputs_dir(preset)
artifacts = home / "artifacts"
report.style()

# %% [markdown]
# Data, split and test cases are those of chapter 4. Writing a list takes long, so one case a user is decoded: the last
# target. `cases` above 0 draws so many users. Every system is compared on these cases alone.

# %%
problem, events = load_problem(artifacts), table_key(artifacts / "events.parquet")
items, users = (load_table(artifacts / f"{name}.parquet", events) for name in ("items", "users"))
texts = teachers.item_texts(items)
chosen = rivals.last_cases(problem.test, cases, draw)
print(f"{len(chosen):,} of {len(problem.test):,} cases, {len(items):,} items")

# %% [markdown]
# ## The method
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
runs = idgenrun.sweep(jobs, problem, texts, chosen, home / "runs")
found = runs["IDGenRec", idgenrec_seeds[0]]
print(f"{len(runs)} runs, {found['parameters']:,} parameters each")

# %% [markdown]
# ## What items are called
#
# The names after the last round, for the items chosen most often in training.

# %%
names = load_json(found["folder"] / "ids.json")["ids"]
often = pd.Series(problem.train.items).value_counts().sort_index().sort_values(ascending=False, kind="stable")
common = often.index[:10].to_numpy()
pd.DataFrame({"text": [texts[item - 1] for item in common], "id": [names[item - 1] for item in common]})

# %% [markdown]
# ## Only items can be written
#
# A trie of all names says which tokens may follow those already written. Each of its leaves is one item, so that beam
# search ends in the catalogue, whatever the model would rather have said. $K$ beams give the list of $K$ items, the
# most probable name first; the score of a name is the sum of its tokens' log-probabilities.

# %%
lengths = pd.Series([len(name.split()) for name in names])
following, _ = trie.trie([name.split() for name in names], "end")
print(f"{len(set(names)):,} names of {lengths.mean():.2f} words; {len(following[()]):,} words can begin one")

# %% [markdown]
# ## Training
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
report.formatted(curve, list(curve.columns))

# %% tags=["nbval-ignore-output"]
Markdown("\n".join(f"* {name}: {rivals.spending(run)}" for (name, _), run in runs.items()))

# %% [markdown]
# ## Beside the students
#
# The rank of the target is its place in the list; a target that the list leaves out has the last rank of the catalogue,
# which counts nothing for Recall@10 and NDCG@10. Where seen items are left out, they are struck from the list, which is
# not refilled. Every system is tested against `IDGenRec` on the same cases.

# %%
ranked = rivals.students(home, problem, seeds, arms, events)
ranked = {name: [frame.iloc[chosen].reset_index(drop=True) for frame in frames] for name, frames in ranked.items()}
for (name, _), run in runs.items():
    ranked.setdefault(name, []).append(load_table(run["folder"] / "ranks.parquet"))
against = {name: "IDGenRec" for name in ranked if name != "IDGenRec"}
both = pd.concat([compare(ranked, against, seen, last=False) for seen in ("kept", "filtered")])

# %%
dataset, protocol = users[["dataset", "protocol"]].iloc[0]
words = both["variant"].str.split(" ", n=1, expand=True)
table = both.assign(dataset=dataset, protocol=f"{protocol}/last", model=words[0])
table["variant"] = words[1].where(table["model"] != "IDGenRec", both["variant"])
table["weights"] = [rivals.weights(idgenrec) if model == "IDGenRec" else "" for model in table["model"]]
first = ["dataset", "protocol", "model", "variant"]
table = save_csv(table[[*first, *table.columns.difference(first, sort=False)]], home / "tables" / "idgenrec.csv")

# %% [markdown]
# Seen items kept as candidates:

# %%
columns = ["variant", "model", "weights", "seeds", "cases", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm"]
columns.append("verdict")
kept = table[table["seen"] == "kept"]
report.formatted(kept, columns)

# %% [markdown]
# Seen items left out:

# %%
report.formatted(table[table["seen"] == "filtered"], columns)

# %%
labelled = kept.assign(variant=kept["model"].where(kept["model"] != "IDGenRec", "") + " " + kept["variant"])
labelled["variant"] = labelled["variant"].str.strip()
report.drawn(labelled, home / "figures" / "idgenrec.png")

# %%
lines = [report.sentence(labelled, name) for name in labelled["variant"] if name != "IDGenRec"]
Markdown("\n".join(f"* {line}" for line in lines))

# %% [markdown]
# ## What the leak is worth
#
# The same model, the same training, the same cases; only the user id may have read the answer.

# %%
scores = kept.set_index("variant")["ndcg@10"]
clean, leaking = scores["IDGenRec"], scores["IDGenRec leaking"]
report.record(home, "07-idgenrec", labelled.set_index("variant")[["recall@10", "ndcg@10"]].to_dict("index"))
Markdown(f"NDCG@10 **{leaking:.4f}** with the leak, **{clean:.4f}** without: a difference of {leaking - clean:+.4f}.")

# %% [markdown]
# ## Limits of this comparison
#
# The weights of the published IDGenRec know English before they see an item; a pair trained from scratch does not, and
# it is smaller and trained for less: its row says what this much computation buys, not what IDGenRec can reach. The
# last epoch is scored, none is chosen by validation. The students were trained on the same events, with as many epochs
# as chapter 4 gave them. The user id is written anew only when the history has doubled; the released version writes
# one for each user. One seed of each variant, where `idgenrec_seeds` has one, gives no verdict between them.
