# %% [markdown]
# # 8 · The paper's tables, and ours
#
# The results of the earlier chapters, next to the paper's. The paper's numbers come from **other data sets**, so its
# rows cannot be subtracted from ours; only the direction of a gain can be compared.

# %% tags=["parameters"]
preset = "default"
beside = ["amazon-beauty-5core"]

# %%
import pandas as pd
from IPython.display import Image, Markdown
from seqbook.reporting import report
from seqbook.reporting.figures import forest
from seqbook.reporting.main_tables import comparable, reading
from seqdistill.io import ROOT, outputs_dir

home = outputs_dir(preset)
recorded = ROOT / "outputs"
first = recorded / "full" if preset == "default" and comparable(home, recorded / "full") else home
folders = [folder / "tables" for folder in (first, *(recorded / other for other in beside))]
report.style()
print("results of:", ", ".join(folder.parent.name for folder in folders))

# %% [markdown]
# The default preset shows the results of preset `full`, which has five seeds, if `outputs/full` has the same events,
# students and teacher. `beside` lists other presets, whose results are shown too.
#
# ## Data

# %%
sizes = report.read_table("data", *folders).drop_duplicates(["dataset", "source"])
report.format_table(sizes)

# %% [markdown]
# ## Main results
#
# The paper's question: does a recommender rank better if it is trained with the profiles? The paper evaluates the last
# target after a global time split, with seen items included, and does not test the differences.

# %%
theirs = report.paper("main")
wide = theirs.pivot_table(index=["model", "dataset"], columns="variant", values="ndcg@10", sort=False).reset_index()
wide = wide.dropna().assign(**{"gain, %": lambda pairs: (pairs["distilled"] / pairs["plain"] - 1) * 100})
report.format_table(theirs, ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %% [markdown]
# The paper's gains in NDCG@10:

# %%
report.format_table(wide, ["model", "dataset", "plain", "distilled", "gain, %"])

# %% [markdown]
# Ours: all test targets of a user, seen items included. `verdict`: does a distilled student rank better than the plain
# one with equal updates and than its control, the same teacher shuffled among the users? `control_verdict` is the test
# against the control alone.

# %%
main = report.read_table("main", *folders)
ours = reading(main, "included")
columns = ["variant", "verdict", "control_verdict", "model", "dataset", "ndcg@10", "delta_ndcg@10"]
report.format_table(ours, columns)

# %% [markdown]
# The same with seen items excluded, the usual protocol on Amazon Beauty 5-core.

# %%
filtered = reading(main, "excluded")
report.format_table(filtered, columns)

# %%
taught = pd.concat([ours, filtered]).query("control != ''")
gains = pd.DataFrame({name: taught[name] == "significant gain" for name in ("verdict", "control_verdict")})
gains = gains.assign(dataset=taught["dataset"], seen=taught["seen"], students=1, both=gains.all(axis=1))
gains = gains.groupby(["dataset", "seen"], sort=False)[["students", "verdict", "both"]].sum().reset_index()
gains.columns = ["dataset", "seen", "taught students", "gain over plain", "gain over shuffled as well"]
report.format_table(gains)

# %%
higher, median = (wide["gain, %"] > 0).sum(), wide["gain, %"].median()
Markdown(f"The paper: {higher} of {len(wide)} pairs are higher with the teacher; the median gain is {median:.1f} %.")

# %% [markdown]
# ## Relative gains
#
# Gain in NDCG@10 of the distilled students over the plain ones, seen items included, next to their shuffled controls.
# The paper gives no interval for the difference, so its dots have none.

# %%
plain = ours[ours["variant"] == "plain"].set_index(["dataset", "model"])["ndcg@10"]
taught = ours[(ours["control"] != "") | ours["variant"].str.contains("shuffled")]
base = plain.reindex(pd.MultiIndex.from_frame(taught[["dataset", "model"]])).to_numpy()
mine = taught[["delta_ndcg@10", "ci_low", "ci_high"]].div(base, axis=0) * 100
mine.columns = ["gain", "ci_low", "ci_high"]
mine.insert(0, "where", taught["model"] + " " + taught["variant"] + ", " + taught["dataset"])

# %%
paper = pd.DataFrame({"where": wide["model"] + ", " + wide["dataset"] + " (paper)", "gain": wide["gain, %"]})
gains = pd.concat([rows.sort_values("gain", ascending=False) for rows in (mine, paper)], ignore_index=True)
best = mine.loc[mine.loc[taught["control"] != "", "gain"].idxmax()]
text = f"Our highest gain with seen items included: {best['where']}, {best['gain']:+.4f} % "
text += f"[{best['ci_low']:+.4f}, {best['ci_high']:+.4f}]. "
text += f"The paper: {paper['gain'].min():+.1f} % to {paper['gain'].max():+.1f} %, without intervals."
xlabel = "gain in NDCG@10 over plain, %, 95 % interval where ours"
figure = forest(gains, "Other data, other protocol: compare directions", "where", "gain", xlabel)
report.show_figure(figure, gains, home / "figures" / "gains.png", text)

# %% [markdown]
# ## Loss balancing
#
# The paper varies the weight of the teacher on Beauty:

# %%
report.format_table(report.paper("loss_balance"), ["dataset", "alpha", "beta", "ndcg@10"])

# %%
grid = report.read_table("ablation-alpha-beta", *folders)
report.format_table(grid, ["variant", "verdict", "dataset", "seeds", "ndcg@10", "delta_ndcg@10", "control_verdict"])

# %% [markdown]
# ## Aggregation
#
# The paper names the best pooling of the hidden states for each data set:

# %%
report.format_table(report.paper("aggregation"), ["dataset", "best"])

# %%
pooled = report.read_table("ablation-aggregation", *folders)
report.format_table(pooled, ["variant", "verdict", "dataset", "seeds", "ndcg@10", "delta_ndcg@10", "control_verdict"])

# %% [markdown]
# ## Cold start
#
# The paper's largest gain is for test items with few or no remaining training events:

# %%
report.format_table(report.paper("cold"), ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %%
report.format_table(report.paper("cold_data"))

# %% [markdown]
# Ours (chapter 6): removed or reduced targets, seen items included. `item-side-text` and the rows after it read the
# items' texts and are not the paper's method. Beauty's rows were tested with an earlier procedure: their `verdict` is
# against plain alone, and their intervals, unlike their verdicts, are not adjusted for the number of tests.

# %%
cold = report.read_table("cold", *folders)
cold = cold[(cold["group"] == "affected") & (cold["seen"] == "included")]
report.format_table(cold, columns)

# %%
theirs = report.paper("cold").pivot_table(index="dataset", columns="variant", values="ndcg@10", sort=False)
grown = ", ".join(f"{name} {gain:+.0%}" for name, gain in (theirs["distilled"] / theirs["plain"] - 1).items())
Markdown(f"The paper's gain of the distilled over the plain student: {grown}, without a test.")

# %% [markdown]
# ## IDGenRec and efficiency
#
# IDGenRec, which the paper compares with, generates item ids with a language model at serving time. Its NDCG@10 in the
# paper is among the main results above. Ours, from chapter 7, is on each user's last target, for all or some users;
# differences are from `IDGenRec` on the same cases. Our IDGenRec is trained from scratch for minutes. Beauty's rows are
# tested with the earlier procedure, too.

# %%
rival = report.read_table("idgenrec", *folders).query("seen == 'included'")
fields = ["variant", "verdict", "model", "dataset", "weights", "ndcg@10", "delta_ndcg@10"]
report.format_table(rival, fields)

# %% [markdown]
# Its cost in the paper, in seconds and as a ratio to plain SASRec:

# %%
costs = report.paper("efficiency")
alone = costs[costs["system"] == "SASRec"].set_index("dataset").loc[costs["dataset"]]
for name, ratio in {"train_s_per_epoch": "training ratio", "infer_s": "inference ratio"}.items():
    costs[ratio] = costs[name].to_numpy() / alone[name].to_numpy()
report.format_table(costs, ["system", "dataset", "train_s_per_epoch", "infer_s", "training ratio", "inference ratio"])

# %% [markdown]
# Ours, measured in chapter 7, as ratios of CPU seconds:

# %%
times = report.read_table("efficiency-ratios", home / "tables")
report.format_table(times)

# %% [markdown]
# ## Are the plain students competitive?
#
# A gain over a weak student would mean little. How were the students' settings chosen? `make bench-search` asks one
# `question` at a time, starting from the best settings so far, and keeps at most one answer. It does not use the test
# events: settings are ranked by the events just before them, a user's last five on MovieLens, the last one on Beauty.
# `delta` is the difference from the best settings before the question; in the rows with three seeds, from the chosen
# settings. `delta_se` is its standard error over users. The table shows the best answers to each question, and the
# rows with three seeds (`best_epoch` is a mean).

# %%
bench = ROOT / "outputs" / "bench"
names = [path.stem for path in sorted(bench.glob("search-*.csv"))]
searched = pd.concat([report.read_table(name, bench) for name in names])
highest = searched.groupby(["dataset", "model", "question"])["ndcg@10"].transform("max") == searched["ndcg@10"]
shown = searched[highest | (searched["question"] == "three seeds")]
shown = shown.assign(student=shown["model"] + ", " + shown["dataset"])
epochs = shown[["best_epoch", "epochs"]].round().astype(int).astype(str)
shown = shown.assign(best_epoch=epochs["best_epoch"] + " of " + epochs["epochs"])
report.format_table(shown, ["student", "question", "setting", "ndcg@10", "delta", "delta_se", "best_epoch"])

# %%
best = searched[searched["chosen"] & (searched["question"] == "three seeds")]
best = best.pivot_table(index="dataset", columns="model", values="ndcg@10")
shares = ", ".join(f"{dataset} {share:.0%}" for dataset, share in (best["BERT4Rec"] / best["SASRec"]).items())
Markdown(f"NDCG@10 of the chosen BERT4Rec as a share of the chosen SASRec's, before the test events: {shares}.")

# %% [markdown]
# Klenitskiy and Vasilev (2023) report 84 % on MovieLens 1M and 93 % on MovieLens 20M, after up to 200 epochs. Where
# `best_epoch` is close to the last epoch, longer training may still help. Chapter 4 trains fewer epochs than were
# chosen on MovieLens, 20 and 60.
#
# How good are the chosen settings on the test events? `make bench-quality` trains them on Amazon Beauty 5-core (22,363
# users, 12,101 items) and ranks each user's last event among all items. Published results of SASRec on these data stand
# beside ours; there is none of BERT4Rec.

# %%
quality = report.read_table("quality", bench).assign(source="ours").astype({"seeds": str})
both = pd.concat([quality, report.paper("field_beauty")]).sort_values("seen", kind="stable")
report.format_table(both.fillna({"seeds": ""}), ["model", "source", "seen", "seeds", "recall@10", "ndcg@10"])

# %% [markdown]
# Where BERT4Rec ranks below item-kNN, a gain over it would mean little. So chapter 4's table of Beauty has SASRec only.
#
# ## How fast are the students?
#
# `make bench-student PEERS=1` trains the same shape (d 64, 2 blocks, 2 heads, length 100) with this book's engine and
# with the peers: SASRec of RecTools and of RePlay, and eSASRec, RecTools' strongest variant. Each runs in a
# separate process on the same data: `synth` (6,000 users who walk between clusters of items) and `ml` (MovieLens
# small, 5-core). The softmax covers all items, except eSASRec's, which samples 256. CPU seconds are summed over
# threads; `infer_s` is the top 10 of every user. `cpu_s_to_quality` is the time until Recall@10 reaches .20 on `synth`
# and .05 on `ml`, set-up included; empty means not reached. Ours and the peers have their own learning rate and number
# of epochs (ours `3e-3` and 6 on `synth`, the peers' `1e-3` and 3): cost per epoch, inference and memory compare the
# engines; quality and the cost to reach it compare these settings. On `ml` the peers read only each user's last 101
# events, about half of the targets that ours trains on.

# %%
speed = report.read_table("student", bench)
columns = ["system", "data", "cpu_s_per_epoch", "cpu_s_to_quality", "infer_s", "peak_rss_mb", "recall@10"]
speed[columns].set_index("system").map(lambda cell: f"{cell:,.3g}" if isinstance(cell, float) else cell).replace(
    "nan", ""
)

# %% [markdown]
# The peers' cost as a multiple of ours:

# %%
ours = speed["system"].str.startswith("seqdistill")
costs = ["cpu_s_per_epoch", "infer_s", "peak_rss_mb"]
ratios = speed[~ours].set_index(["system", "data"])[costs].div(speed[ours].set_index("data")[costs], level="data")
ratios.dropna(axis=1).map("{:.1f}".format)

# %% [markdown]
# Quality against CPU seconds; a peer's single dot is its last epoch. Chapter 7 shows what a step costs as the
# catalogue and the histories grow.

# %%
curve = report.read_table("student-quality", bench)
reached = curve[(curve["data"] == "synth") & (curve["recall@10"] >= 0.2)].groupby("system")["cpu_s"].min()
said = "Recall@10 of .20 on synth: " + ", ".join(f"{name} after {value:.1f} CPU s" for name, value in reached.items())
Image(bench / "student-quality.png", alt=said)

# %% [markdown]
# ## The paper's own data
#
# With its files in `data/`, a server for the LLM and a GPU, one command fills the rows of a data set:

# %%
missing = [name for name in report.paper("data")["dataset"] if name not in set(main["dataset"])]
Markdown("\n".join(f"* {name}: `make reproduce PRESET={name}`" for name in missing))

# %% [markdown]
# ## Limits
#
# Our data sets, LLM and protocol differ from the paper's: directions can be compared, sizes cannot. Our IDGenRec is
# trained from scratch, the paper's from published weights.
