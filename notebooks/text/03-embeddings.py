# %% [markdown]
# # 3 · From words to a vector that can teach
#
# A student cannot read. The profile text becomes a vector (a sentence encoder of the E5 family), and the vector is
# reduced to the student's size with UMAP, as in the paper (section 3.2). What is lost on the way, and is it still
# about taste?

# %% tags=["parameters"]
preset = "default"
encoder = "e5-small"
components = 64
neighbors = 15
seed = 0

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown
from safetensors.torch import save_file
from seqdistill import encoders, profiles, report
from seqdistill.artifacts import load_table, outputs_dir, save_csv, save_with, table_key

home = outputs_dir(preset)
artifacts = home / "artifacts"
report.style()

# %% [markdown]
# ## Encode
#
# One unit vector per profile. E5 was trained with a prefix before every text; the encoder adds it.

# %%
key = table_key(artifacts / "events.parquet")
texts = load_table(artifacts / "profiles.parquet", key)
vectors = encoders.encode(texts["text"].tolist(), encoder)
print(f"{vectors.shape[0]} profiles, {vectors.shape[1]} dimensions")

# %% [markdown]
# ## Reduce
#
# UMAP keeps near what is near. The seed is fixed, so that the same texts give the same teacher; without it every
# run would teach something else.

# %%
reduced = encoders.umap(vectors, components, neighbors, seed)
print(f"{reduced.shape[0]} users, {reduced.shape[1]} dimensions")

# %% [markdown]
# ## What survives?
#
# For each user: how many of the ten nearest profiles are still among the ten nearest after the reduction? A random
# vector would keep ten in the number of users.

# %%
flat = encoders.umap(vectors, 2, neighbors, seed)
overlap = {f"UMAP to {components}": encoders.neighbour_overlap(vectors, reduced, 10)}
overlap["UMAP to 2"] = encoders.neighbour_overlap(vectors, flat, 10)
overlap["chance"] = 10 / (len(vectors) - 1)

# %%
kept = pd.DataFrame({"space": list(overlap), "kept": list(overlap.values())})
save_csv(kept, home / "tables" / "neighbours.csv")
report.formatted(kept, ["space", "kept"])

# %% [markdown]
# ## The map
#
# Each dot is a user, coloured by the genre that the user's training history holds most of. If the text says
# something about taste, colours gather.

# %%
events, items = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items"))
histories = profiles.histories(events[events["split"] == "train"], items)
favourite = texts["user"].map(lambda user: next(iter(profiles.shares(histories[user]["categories"]).index), "none"))
common = favourite.value_counts().index[:6]
drawn = pd.DataFrame({"x": flat[:, 0], "y": flat[:, 1], "favourite": favourite.where(favourite.isin(common), "other")})

# %%
figure, axes = plt.subplots(figsize=(6.4, 4.8))
for name, group in drawn.groupby("favourite"):
    axes.scatter(group["x"], group["y"], s=12, label=name, alpha=0.8)
axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title="Profiles, coloured by favourite genre")
_ = axes.legend(fontsize=7)
report.save_figure(figure, drawn, home / "figures" / "map.png")

# %% [markdown]
# The eye finds clusters anywhere, so here is the number: how often do a user's ten nearest profiles share the
# favourite genre, and how often would ten users drawn at random?

# %%
labels = favourite.to_numpy()
agree = float((labels[encoders.neighbours(vectors, 10, "cosine")] == labels[:, None]).mean())
after = float((labels[encoders.neighbours(reduced, 10, "euclidean")] == labels[:, None]).mean())
chance = float((favourite.value_counts(normalize=True) ** 2).sum())
Markdown(f"Same favourite genre: encoder **{agree:.4f}**, after UMAP **{after:.4f}**, chance {chance:.4f}.")

# %% [markdown]
# ## Hand over
#
# The teacher is standardised per dimension. A user without a profile has a row of NaN and will be left out of the
# loss.

# %%
teacher = torch.full((events["user"].max() + 1, components), torch.nan)
teacher[torch.tensor(texts["user"].tolist())] = encoders.standardised(reduced)
save_with(
    lambda path: save_file({"teacher": teacher}, path, metadata={"events": key}), artifacts / "teacher.safetensors"
)
report.record(
    home, "03-embeddings", {**overlap, "same_genre": agree, "same_genre_umap": after, "same_genre_chance": chance}
)

# %% [markdown]
# ## Limits
#
# UMAP keeps neighbourhoods, not distances, and its result depends on the seed. The reducer is fitted on all users
# at once; users who come later would need its `transform`.
