# %% [markdown]
# # 8 · The paper's tables, and ours
#
# What the earlier chapters found, next to what the paper reports. The paper's numbers come from **other data
# sets**, so no row of theirs can be subtracted from a row of ours: what can be compared is the direction and the
# size of the gain.

# %% tags=["parameters"]
preset = "default"
beside = ["amazon-beauty-5core"]

# %%
import pandas as pd
from IPython.display import Image, Markdown
from seqdistill.reporting import report
from seqdistill.reporting.figures import forest
from seqdistill.io import ROOT, outputs_dir

home = outputs_dir(preset)
folders = [folder / "tables" for folder in (home, *(ROOT / "outputs" / other for other in beside))]
report.style()

# %% [markdown]
# `beside` names other presets; what they have left in `outputs/` is shown, too.
#
# ## Data

# %%
sizes = report.read_table("data", *folders).drop_duplicates(["dataset", "source"])
report.format_table(sizes)

# %% [markdown]
# ## Main results
#
# The paper's question: does the recommender rank better when it has learned from the profiles? The paper: last target
# after a global time split, seen items included; no test of the differences.

# %%
theirs = report.paper("main")
wide = theirs.pivot_table(index=["model", "dataset"], columns="variant", values="ndcg@10", sort=False).reset_index()
wide = wide.dropna().assign(**{"gain, %": lambda pairs: (pairs["distilled"] / pairs["plain"] - 1) * 100})
report.format_table(theirs, ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %% [markdown]
# Its gains in NDCG@10:

# %%
report.format_table(wide, ["model", "dataset", "plain", "distilled", "gain, %"])

# %% [markdown]
# Ours: all test targets of a user, seen items included. `verdict`: does a taught student rank better than the plain one
# with equal updates and than its control, the same teacher shuffled among the users? `control_verdict` is the second
# half of that. Beauty's rows were tested before both were one question: their `verdict` is against plain alone.

# %%
main = report.read_table("main", *folders)
ours = main[main["protocol"].str.endswith("/all") & (main["seen"] == "included")]
columns = ["variant", "verdict", "control_verdict", "model", "dataset", "ndcg@10", "delta_ndcg@10"]
report.format_table(ours, columns)

# %% [markdown]
# The same with seen items excluded, the usual way on Amazon Beauty 5-core.

# %%
filtered = main[main["protocol"].str.endswith("/all") & (main["seen"] == "excluded")]
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
Markdown(f"The paper: {higher} of {len(wide)} pairs are higher with the teacher, by a median of {median:.1f} %.")

# %% [markdown]
# ## The gain, as a ratio
#
# Taught over plain in NDCG@10, seen items included, and beside each its shuffled control. The paper gives no interval
# for the difference, so its dots have none.

# %%
plain = ours[ours["variant"] == "plain"].set_index(["dataset", "model"])["ndcg@10"]
taught = ours[(ours["control"] != "") | ours["variant"].str.contains("shuffled")]
base = plain.reindex(pd.MultiIndex.from_frame(taught[["dataset", "model"]])).to_numpy()
mine = taught[["delta_ndcg@10", "ci_low", "ci_high"]].div(base, axis=0) * 100
mine.columns = ["gain", "ci_low", "ci_high"]
mine.insert(0, "where", taught["model"] + " " + taught["variant"] + ", " + taught["dataset"])

# %%
paper = pd.DataFrame({"where": wide["model"] + ", " + wide["dataset"] + " (paper)", "gain": wide["gain, %"]})
gains = pd.concat([mine, paper], ignore_index=True)
best = mine.loc[mine.loc[taught["control"] != "", "gain"].idxmax()]
text = f"Highest of our taught students: {best['where']}, {best['gain']:+.4f} % "
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
# The paper names the best way of putting the states of a history together, by data set:

# %%
report.format_table(report.paper("aggregation"), ["dataset", "best"])

# %%
pooled = report.read_table("ablation-aggregation", *folders)
report.format_table(pooled, ["variant", "verdict", "dataset", "seeds", "ndcg@10", "delta_ndcg@10", "control_verdict"])

# %% [markdown]
# ## Cold start
#
# The paper's largest gain is for test items with few or no training events left:

# %%
report.format_table(report.paper("cold"), ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %%
report.format_table(report.paper("cold_data"))

# %% [markdown]
# Ours (chapter 6): targets that were removed or reduced, seen items included. `item-side-text` and what follows read
# the items' texts and are not the paper's method.

# %%
cold = report.read_table("cold", *folders)
cold = cold[(cold["group"] == "affected") & (cold["seen"] == "included")]
report.format_table(cold, columns)

# %%
theirs = report.paper("cold").pivot_table(index="dataset", columns="variant", values="ndcg@10", sort=False)
grown = ", ".join(f"{name} {gain:+.0%}" for name, gain in (theirs["distilled"] / theirs["plain"] - 1).items())
Markdown(f"The paper, the taught student over the plain one: {grown}, without a test.")

# %% [markdown]
# ## IDGenRec and efficiency
#
# The rival of the paper generates item ids with a language model at serving time. Its NDCG@10 stands among the main
# results above. Ours, from chapter 7: each user's last target, or those of some users, every row tested against
# `IDGenRec` on the same cases.

# %%
rival = report.read_table("idgenrec", *folders).query("seen == 'included'")
fields = ["variant", "verdict", "model", "dataset", "weights", "ndcg@10", "delta_ndcg@10"]
report.format_table(rival, fields)

# %% [markdown]
# And what it costs, in the paper: seconds, and the ratio to plain SASRec.

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
# ## Is the student itself any good?
#
# A gain over a weak student would mean little. So the plain students of the Beauty preset stand below, SASRec beside
# what others publish on Amazon Beauty 5-core (22,363 users, 12,101 items): leave-one-out, all items ranked. There
# is no published row for BERT4Rec; on Beauty item-kNN ranks better than it, so that a gain over it there is one over a
# weak student. Both settings of Beauty were chosen among those of the table below by validation NDCG@10 of one seed;
# `make bench-quality` repeats it. The rows of movielens-small are not chapter 4's students: they train longer, for
# leave-one-out, and their settings were not searched.

# %%
bench = ROOT / "outputs" / "bench"
search = report.read_table("quality-search", bench)
report.format_table(search, ["setting", "model", "epochs", "best_epoch", "valid_ndcg@10"])

# %%
quality = report.read_table("quality", bench).assign(source="ours")
field = report.paper("field_beauty").assign(dataset="amazon-beauty-5core")
both = pd.concat([quality, field]).sort_values(["dataset", "seen"], kind="stable")
report.format_table(both, ["model", "source", "dataset", "seen", "seeds", "recall@10", "ndcg@10"])

# %% [markdown]
# How were the settings of chapter 4 chosen? `make bench-search` goes through one question at a time, each from the best
# so far, without the test events: the five events of a user before them are ranked. `delta` is the difference from
# the best before the question, `delta_se` its standard error over users; the last rows have three seeds, the others
# one. The answers of each question that ranked highest, and the rows with three seeds:

# %%
names = [path.stem for path in sorted(bench.glob("search-*.csv"))]
searched = pd.concat([report.read_table(name, bench) for name in names])
highest = searched.groupby(["dataset", "model", "question"])["ndcg@10"].transform("max") == searched["ndcg@10"]
shown = searched[highest | (searched["question"] == "three seeds")]
report.format_table(shown, ["question", "model", "setting", "ndcg@10", "delta", "delta_se", "best_epoch"])

# %% [markdown]
# ## And how fast?
#
# `make bench-student PEERS=1` trains the same shape (d 64, 2 blocks, 2 heads, length 100) with this book's engine and
# with three peers: RecTools' SASRec, its authors' strongest variant eSASRec, and RePlay's SASRec. Each runs in a
# process of its own on the same data: `synth` (6,000 users who walk between clusters of items) and `ml` (MovieLens
# small, 5-core). All items are in the softmax, but for eSASRec's, which samples 256. CPU seconds are those of all
# threads; `infer_s` is everybody's top 10. `cpu_s_to_quality` counts until Recall@10 reaches .20 on `synth` and .05 on
# `ml`, set-up included; empty means not reached. Each side has its own learning rate and number of epochs (ours `3e-3`
# and 6 on `synth`, the peers' `1e-3` and 3): cost of an epoch, inference and memory compare the engines, quality and
# the cost to reach it compare these settings. On `ml` the peers read each user's last 101 events only, about half of
# the targets that ours trains on.

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
# With its files in `data/`, a server that answers as the LLM and a GPU, one command fills the rows of a data set:

# %%
missing = [name for name in report.paper("data")["dataset"] if name not in set(main["dataset"])]
Markdown("\n".join(f"* {name}: `make reproduce PRESET={name}`" for name in missing))

# %% [markdown]
# ## Limits
#
# Ours are other data sets, a smaller LLM and another protocol than the paper's: directions can be compared, sizes
# cannot. IDGenRec is trained from scratch here, the paper's from published weights.

# %% tags=["nbval-ignore-output"]
print(report.cost())
