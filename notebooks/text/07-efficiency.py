# %% [markdown]
# # 7 · What does it cost, and what is served?
#
# The teacher must be paid for once, and while the student trains; then it is gone. How much is that, what is left to
# serve, how long does a request take, and where does one machine end?

# %% tags=["parameters"]
preset = "default"
model = "SASRec"
seed = 0
recall = 0.95

# %%
from IPython.display import Markdown
from seqdistill import efficiency, explore, presets, report, serving
from seqdistill.artifacts import ROOT, BookError, load_table, outputs_dir, save_csv, table_key
from seqdistill.train import load_problem

home, bench = outputs_dir(preset), ROOT / "outputs" / "bench"
figures = home / "figures"
report.style()

# %% [markdown]
# ## What does the teacher add to training?
#
# What is measured here is measured by `make bench-serving`, on the students of the default preset, and only read: CPU
# seconds of one thread, on two shared cores, so that ratios count and seconds are those of this machine. Epochs with
# and without teacher take turns, and who begins changes; every pair of neighbours gives a ratio.

# %%
pairs = efficiency.bench(bench, "overhead")
added = save_csv(efficiency.overheads(pairs), home / "tables" / "overhead.csv")
report.formatted(added, list(added.columns))

# %%
report.drawn(pairs, figures / "overhead.png", " ".join(efficiency.overhead_sentences(added)).replace("**", ""))

# %% [markdown]
# ## What does the teacher cost once?
#
# The LLM reads facts or histories and writes, the encoder reads what it wrote, UMAP reduces: none of it is repeated
# when a student trains again, and none of it is needed to serve. UMAP's seconds are those of the largest size that
# `make bench-umap` fits.

# %%
said = presets.profile_values(preset)
written = report.tables([home], "profiles").set_index(["llm", "style"]).loc[(said["llm"], said["style"])]
written["llm"] = said["llm"]
umap = efficiency.bench(bench, "umap")
once = efficiency.teacher_cost(written, said["parallel"], efficiency.bench(bench, "teacher").iloc[0], umap)
report.formatted(save_csv(once, home / "tables" / "teacher-cost.csv"), list(once.columns))

# %% [markdown]
# ## What does inference cost?
#
# Ten items for every case of the test set, in batches of 256 and one at a time, each system in a process of its own,
# the systems in turn. The memory is the process's peak, libraries included.

# %%
rounds = efficiency.bench(bench, "serving")
systems = efficiency.table(pairs, rounds)
save_csv(systems, home / "tables" / "efficiency.csv")
spent = ["train_cpu_s_per_epoch", "infer_cpu_s", "infer_cpu_s_batch1", "p50_ms", "p99_ms", "peak_rss_mb", "parameters"]
report.formatted(systems, ["system", *spent])

# %%
Markdown(
    f"Other work shared the two cores (load average **{rounds['load'].max():.4f}**): the 99th percentiles are those of "
    "waiting for a core, not of the student; CPU seconds leave waiting out."
)

# %% [markdown]
# A distilled student has as many weights as the plain one and the same graph, so that where their seconds differ, the
# machine was busier: the paired comparison of single requests below tells them apart better. Beside the paper's
# seconds, which were measured on other data and machines, only ratios can stand:

# %%
times = save_csv(efficiency.ratios(systems, report.paper("efficiency")), home / "tables" / "efficiency-ratios.csv")
report.formatted(times, list(times.columns))

# %%
Markdown("\n".join(f"* {line}" for line in efficiency.ratio_sentences(times)))

# %%
report.drawn(systems, figures / "efficiency.png", efficiency.quality_sentence(systems))

# %% [markdown]
# ## What is served?
#
# The distilled student of one seed, exported with `torch.export` and written as ONNX, which runs where no PyTorch is:
# item ids in, scores of the whole catalogue out, any number of histories of any length that the student reads.

# %%
problem = load_problem(home / "artifacts")
net = explore.students(home, model, seed)["distilled"]
run = serving.session(serving.save_onnx(net, home / "artifacts" / "student.onnx"))

# %% [markdown]
# It must say what PyTorch says. On every test history:

# %%
worst, same = serving.agreement(net, run, problem.test.histories)
print(f"every score within 1e-4: {worst < 1e-4}; the ten best are the same for {same:.0%} of the cases")

# %% [markdown]
# A request names items by the data set's own ids; what the user has seen is left out. Here the history of the first
# test case.

# %%
items = load_table(home / "artifacts" / "items.parquet", table_key(home / "artifacts" / "events.parquet"))
shop = serving.served(run, net.reads, items)
history = shop.items.set_index("item").loc[problem.test.histories.row(0)]
print(", ".join(history["title"].tail(5)))

# %% tags=["nbval-ignore-output"]
serving.top(shop, history["item_id"].tolist()).set_index("item_id")

# %% [markdown]
# Ids that the catalogue does not have are refused by name, and so is an empty history.

# %%
for wrong in ([history["item_id"].iloc[0], "no-such-item"], []):
    try:
        serving.top(shop, wrong)
    except BookError as error:
        print(error)

# %% [markdown]
# ## Do eight bits suffice?
#
# ONNX Runtime's dynamic quantisation stores weights as int8. The plain students of chapter 4, the same weights, ranked
# the whole test set through both files; the test pairs users.

# %%
bits = efficiency.bench(bench, "int8")
save_csv(bits, home / "tables" / "int8.csv")
report.formatted(bits, ["variant", "seeds", "cases", "file_mb", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"])

# %%
Markdown("\n".join(f"* {report.sentence(bits, name)}" for name in bits.dropna(subset="delta_ndcg@10")["variant"]))

# %% [markdown]
# ## How long does a request take?
#
# One history at a time, of random length, ten items out. Every system answers the same requests, in random order, and
# is compared with `plain` request by request, by CPU time: other work on the machine makes wall time long in its tail.
# `plain again` is the plain student loaded twice; it shows what a difference without a cause looks like.

# %%
asked = efficiency.bench(bench, "latency")
save_csv(asked, home / "tables" / "latency.csv")
quantiles = [f"{kind}_p{part}_ms" for kind in ("cpu", "wall") for part in (50, 95, 99)]
report.formatted(asked, ["system", "model", "requests", *quantiles])

# %%
percent = asked.dropna(subset="ratio").assign(system=asked["model"] + " " + asked["system"])
percent = percent.assign(more=100 * (percent["ratio"] - 1))
percent[["ci_low", "ci_high"]] = 100 * (percent[["ci_low", "ci_high"]] - 1)
report.drawn(percent, figures / "latency.png", " ".join(efficiency.latency_sentences(asked)).replace("**", ""))

# %% [markdown]
# ## When does an index pay?
#
# Exact scoring reads the whole catalogue. FAISS's inverted lists (IVF) and graphs (HNSW) read a part of it, and miss
# some of the ten best. Where there are trained item vectors they are used; larger catalogues have random vectors of
# the same width, which cost the same to score but have no structure that an index could use: the worst case for
# recall.

# %%
found = efficiency.bench(bench, "catalogue")
save_csv(found, home / "tables" / "catalogue.csv")
columns = [
    "index",
    "items",
    "embeddings",
    "encode_cpu_ms",
    "search_cpu_ms",
    "search_p50_ms",
    "search_p99_ms",
    "recall@10",
]
report.formatted(found, columns)

# %%
lines = efficiency.index_sentences(found, recall)
report.drawn(found, figures / "catalogue.png", f"At {recall:.0%} recall: " + " ".join(lines))

# %% [markdown]
# ## What grows how?
#
# A training step, and a ranking, with one size varied up to that of Amazon-M2 and the others fixed; synthetic
# histories, since cost does not depend on what they hold. The exponent $b$ of $\text{cost} = a \cdot \text{size}^b$ is
# the slope on logarithmic axes: 1 is proportional, below 1 something fixed still dominates.

# %%
sizes = efficiency.bench(bench, "growth")
save_csv(sizes, home / "tables" / "growth.csv")
slopes = save_csv(efficiency.exponents(sizes), home / "tables" / "growth-exponents.csv")
report.formatted(slopes, ["cost", "size", "loss", "points", "exponent", "ci_low", "ci_high"])

# %%
report.drawn(sizes, figures / "growth.png", "; ".join(efficiency.exponent_sentences(slopes)).replace("**", "") + ".")

# %% [markdown]
# ## Where does one machine end?
#
# The measured constants, carried to the users and items of Amazon-M2: hours of one thread, and what takes over where
# they are too many. Nothing below was run at that size as a whole; `exchange_share` is the time that the gradients of
# all item vectors take over a network of `bandwidth` bytes per second, as a share of the step measured here (a faster
# processor makes it larger): where it is large, further machines bring little.

# %%
bandwidth = 1.25e9
theirs = report.paper("data").set_index("dataset").loc["amazon-m2"]
far = save_csv(efficiency.reach(sizes, once, int(theirs["users"]), bandwidth), home / "tables" / "reach.csv")
report.formatted(far, list(far.columns))

# %%
Markdown("\n".join(f"* {line}" for line in efficiency.reach_sentences(far)))

# %% [markdown]
# Runs are independent, so that variants and seeds spread over a cluster with Ray (`cluster` of chapter 4) without
# loss; one run spreads over GPUs with `accelerate launch`, which trains the model that one process would. Profiles are
# the bulk: they want vLLM servers behind one address, and are asked once.
#
# ## What it says

# %%
summary = {"overhead": added.set_index("model")["phase_1"].to_dict()}
summary |= {"latency": {row.system: row.ratio for row in percent.itertuples()}}
report.record(home, "07-efficiency", summary)
Markdown("\n".join(f"* {line}" for line in efficiency.overhead_sentences(added) + efficiency.latency_sentences(asked)))

# %% [markdown]
# ## Limits
#
# All seconds are of one kind of processor, which other work shared; ratios within a run are safe, seconds are not.
# Single requests were timed in the process that serves them: a web server, its queue and its network come on top. An
# epoch of phase 1 is compared, with the paper's form of the method and one profile a user. Exponents rest on few
# sizes. An index is picked on the queries that measured it, among the few that were tried. Hours for Amazon-M2 assume
# that cost grows in proportion to users, and the LLM, encoder and processor that were measured here.
