# %% [markdown]
# # 8 · Every table, beside the paper's
#
# What the earlier chapters found, next to what the paper reports. The paper's numbers come from **other data
# sets**, so no row of theirs can be subtracted from a row of ours: what can be compared is the direction and the
# size of the gain.

# %% tags=["parameters"]
preset = "default"

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from seqdistill import report
from seqdistill.artifacts import outputs_dir

home = outputs_dir(preset)
report.style()

# %% [markdown]
# ## Data

# %%
sizes = pd.read_csv(home / "tables" / "data.csv")
report.formatted(sizes, list(sizes.columns))

# %% [markdown]
# ## Main results
#
# Ours: all test targets, seen items kept. The paper: last target after a global time split, seen items kept.

# %%
main = pd.read_csv(home / "tables" / "main.csv", keep_default_na=True)
ours = main[main["protocol"].str.endswith("/all") & (main["seen"] == "kept")].fillna({"verdict": "", "baseline": ""})
report.formatted(ours, ["variant", "dataset", "protocol", "recall@10", "ndcg@10", "delta_ndcg@10", "verdict"])

# %%
theirs = report.paper("main")
report.formatted(theirs, ["variant", "dataset", "model", "recall@10", "ndcg@10"])

# %% [markdown]
# ## The gain, as a ratio
#
# Distilled over plain in NDCG@10. The paper gives no interval for the difference, so its dots have none.

# %%
row = ours.set_index("variant").loc["distilled"]
plain = ours.set_index("variant").loc["plain", "ndcg@10"]
wide = theirs.pivot_table(index="dataset", columns="variant", values="ndcg@10", sort=False)
gains = pd.DataFrame({"where": wide.index + " (paper)", "gain": (wide["distilled"] / wide["plain"] - 1).to_numpy()})
mine = {"where": f"{row['dataset']} (ours)", "gain": row["delta_ndcg@10"] / plain}
mine |= {"low": row["ci_low"] / plain, "high": row["ci_high"] / plain}
gains = pd.concat([pd.DataFrame([mine]), gains], ignore_index=True)

# %%
figure, axes = plt.subplots()
axes.plot(gains["gain"] * 100, gains.index, "o")
axes.hlines(0, gains["low"][0] * 100, gains["high"][0] * 100)
axes.axvline(0, color="black", linewidth=1)
axes.set(yticks=gains.index, yticklabels=gains["where"], ylim=(len(gains) - 0.5, -0.5))
axes.set(
    xlabel="gain in NDCG@10 of distilled over plain SASRec, %", title="Other data, other protocol: compare directions"
)
report.save_figure(figure, gains, home / "figures" / "gains.png")

# %% [markdown]
# ## Loss balancing

# %%
grid = pd.read_csv(home / "tables" / "ablation-alpha-beta.csv").fillna({"verdict": "", "baseline": ""})
report.formatted(grid, ["variant", "dataset", "ndcg@10", "delta_ndcg@10", "verdict"])

# %%
report.formatted(report.paper("loss_balance"), ["dataset", "alpha", "beta", "ndcg@10"])

# %% [markdown]
# ## In one paragraph

# %%
verdicts = ours[ours["model"] == "SASRec"].set_index("variant")["verdict"].drop("plain")
words = "; ".join(f"{name}: *{word}*" for name, word in verdicts.items())
Markdown(f"On {row['dataset']}, against the plain student with equal updates: {words}.")

# %% [markdown]
# ## Limits
#
# The paper's own data sets, BERT4Rec, cold start, IDGenRec and the efficiency comparison are not in this table.
