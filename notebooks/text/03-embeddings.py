# %% [markdown]
# # 3 · From text to a teacher vector
#
# A sentence encoder of the E5 family turns the profile text into a vector. UMAP reduces this vector to the student's
# size, as in the paper (section 3.2). What does the reduction lose? Is the vector still about taste? Does a profile
# carry more information than the history from which it was written?

# %% tags=["parameters"]
preset = "default"
teacher = "profile"
everyone = []
encoder = "e5-small"
reducer = "umap"
components = 64
neighbors = 15
metric = "cosine"
seed = 0
source_encoder = "minilm"
latest = 20

# %%
import os

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from seqdistill.embeddings import teachers
from seqdistill.embeddings import encoders
from seqdistill.embeddings import reducers
from seqbook.reporting import report
from seqbook.zero_shot import compare_sources
from seqdistill.io import content_digest, digest, load_table, outputs_dir, save_csv, save_with, table_key
from seqdistill.profiles.facts import facts_text, histories, shares
from seqbook.reporting.figures import forest, palette, users_map
from seqbook.reporting.hover import svg_scatter
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

home = outputs_dir(preset)
artifacts = home / "artifacts"
report.style()

# %% [markdown]
# ## Encode
#
# Each profile becomes one unit vector. E5 was trained with a prefix before every text; the encoder adds it. A text
# longer than the encoder's window is split, and the vectors of its parts are averaged. Vectors are cached under the
# digest of the text, so that no text is encoded twice. The book ships the vectors of its profiles and,
# in half precision, of the raw histories.

# %%
key = table_key(artifacts / "events.parquet")
events, items, profiles = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items", "profiles"))
texts = profiles.set_index("user")["text"]
read = histories(events[events["split"] == "train"], items)
users = np.array(texts.index.unique())


# %%
def encode(lines, name=encoder):
    vectors, split = encoders.encode(lines, name)
    print(f"{name}: {vectors.shape[0]} texts, {vectors.shape[1]} dimensions, {split:.1%} of them split")
    return vectors


# %% [markdown]
# `teacher` selects what is encoded: the profile, or one of the alternatives below. A user with several profiles gets
# their mean.

# %%
catalogue = encode(teachers.item_texts(items)) if teacher == "item-text" else np.zeros((len(items), 1), np.float32)
vectors = teachers.source_vectors(teacher, texts, read, catalogue, encode, latest, seed)

# %% [markdown]
# Do the stored vectors match this machine's encoder? We encode the first three profiles again; another processor may
# round differently.

# %%
live = encoders.encode_chunk(texts.iloc[:3].tolist(), encoders.open_encoder(encoder))[:, :-1]
gap = np.abs(live - encoders.encode(texts.iloc[:3].tolist(), encoder)[0]).max()
print("largest difference in a coordinate:", "below .001" if gap < 1e-3 else f"{gap:.3f}")

# %% [markdown]
# ## Reduce
#
# UMAP preserves neighbourhoods. Its seed is fixed, so that on one machine the same texts give the same teacher; without
# a seed every run would have a different teacher. On another processor the last digits of the vectors differ, and UMAP
# amplifies this, so the numbers below differ slightly. With `reducer: pca` the numbers do not differ. UMAP can be saved
# only with pickle, which this book does not use. We store vectors and settings instead; chapters 5 and 9 read the
# vectors.

# %%
reduced, transform = reducers.fit(vectors, reducer, components, neighbors, seed, metric)
settings = {"kind": reducer, "components": str(components), "neighbors": str(neighbors), "seed": str(seed)}
settings["metric"] = metric
reducers.save_reducer(artifacts / "reducer.safetensors", vectors, settings)
print(f"{reduced.shape[0]} users, {reduced.shape[1]} dimensions")

# %% [markdown]
# ## What does the reduction preserve?
#
# *Trustworthiness*: were the new neighbours neighbours before? *Neighbour overlap*: how many of the ten nearest
# profiles are still among the ten nearest? *Explained variance*: how much of the encoder's vectors can a linear map
# recover? *Effective rank*: how many dimensions are really used?

# %%
flat, _ = reducers.fit(vectors, "umap", 2, neighbors, seed, metric)
other, width = "umap" if reducer == "pca" else "pca", min(components, len(users) - 1, vectors.shape[1])
rival, _ = reducers.fit(vectors, other, width, neighbors, seed, metric)
spaces = {f"{reducer} to {reduced.shape[1]}": reduced, f"{other} to {width}": rival, "umap to 2": flat}
kept = pd.DataFrame([{"space": name, **reducers.diagnostics(vectors, space)} for name, space in spaces.items()])
kept.loc[len(kept)] = {"space": "chance", "trustworthiness": 0.5, "neighbour_overlap": 10 / (len(users) - 1)}
save_csv(kept, home / "tables" / "neighbours.csv")
report.format_table(kept, list(kept.columns))

# %%
ours, theirs = (kept["neighbour_overlap"][row] for row in (0, 1))
Markdown(
    f"Of the ten nearest, {kept['space'][0]} preserves **{ours:.0%}**, {kept['space'][1]} **{theirs:.0%}**. "
    + ("The chosen reducer loses more neighbours." if theirs > ours else "The chosen reducer loses fewer.")
)

# %% [markdown]
# ## New users
#
# A reducer is fitted on the present users; its `transform` maps new ones. How well? One user in ten is left out of the
# fit and transformed afterwards. We compare such a user's neighbours in the reduced space with those in the encoder's
# space.

# %%
late = np.arange(len(users)) % 10 == 9
early, join = reducers.fit(vectors[~late], reducer, components, neighbors, seed, metric)
joined = np.concatenate([early, join(vectors[late])])
order = np.concatenate([np.flatnonzero(~late), np.flatnonzero(late)])
before = reducers.neighbours(vectors[order], 10, "cosine")[len(early) :]
after = reducers.neighbours(joined, 10, "euclidean")[len(early) :]
overlap_late = float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(before, after, strict=True)]))
Markdown(f"Neighbour overlap of the {late.sum()} new users: **{overlap_late:.4f}**.")

# %% [markdown]
# ## The map
#
# Each dot is a user, coloured by the most frequent genre in the user's training history. If the text reflects taste,
# users of one colour are close together. The labels name what distinguishes a cluster (k-means on the map): the genres
# whose share in the cluster exceeds their share among all users by the most.

# %%
favourite = pd.Series([next(iter(shares(read[user]["categories"])), "none") for user in users])
common = favourite.value_counts().index[:6]
drawn = pd.DataFrame({"x": flat[:, 0], "y": flat[:, 1], "favourite": favourite.where(favourite.isin(common), "other")})
drawn["cluster"] = KMeans(6, random_state=seed, n_init=10).fit_predict(flat)

# %%
taste = pd.DataFrame([shares(read[user]["categories"]) for user in users]).fillna(0)
lift = taste.groupby(drawn["cluster"]).mean() - taste.mean()
names = lift.apply(lambda row: "\n".join(row.nlargest(2).index), axis=1)
drawn["label"] = drawn["cluster"].map(names)
biggest = drawn["favourite"].value_counts(normalize=True)
text = f"{len(drawn):,} profiles; the favourite of {biggest.iloc[0]:.0%} of the users is {biggest.index[0]}."
report.show_figure(users_map(drawn), drawn, home / "figures" / "map.png", text)

# %% [markdown]
# The next cell saves the same map, with each profile as a tooltip, as `map.html` next to this notebook. In JupyterLab
# it also shows the map.

# %%
shown_text = texts.groupby(level=0, sort=False).agg(" ".join).to_numpy()
page = svg_scatter(drawn.rename(columns={"favourite": "group"}).assign(text=shown_text), palette(drawn["favourite"]))
save_with(lambda path: path.write_text(page), home / "map.html")
HTML(page) if "SEQDISTILL_OUTPUTS" not in os.environ and "TQDM_DISABLE" not in os.environ else print("map.html")

# %% [markdown]
# A map can suggest clusters that are not there, so we measure: how often do a user's ten nearest profiles share the
# favourite genre, and how often would ten random users?

# %%
labels = favourite.to_numpy()
agree = float((labels[reducers.neighbours(vectors, 10, "cosine")] == labels[:, None]).mean())
after = float((labels[reducers.neighbours(reduced, 10, "euclidean")] == labels[:, None]).mean())
chance = float((favourite.value_counts(normalize=True) ** 2).sum())
Markdown(f"Same favourite genre: encoder **{agree:.4f}**, after reduction **{after:.4f}**, chance {chance:.4f}.")

# %% [markdown]
# ## Do profiles predict the next choice?
#
# A test without training and without test events. From a user's vector alone, how well does text similarity rank the
# user's *validation* item among all items that the user has not seen, and its genres among all genres? The
# alternatives: the computed `facts` as text, the `raw-history` as text (the latest events), the mean of the item
# vectors (`item-text`), another user's profile (`shuffled`) and `noise`. All use the same, faster encoder. Means over
# users are subtracted first, because what all texts share does not distinguish users.

# %%
catalogue = encode(teachers.item_texts(items), source_encoder)
genres = sorted(
    {name for user in users for history in [read[user]] for names in history["categories"] for name in names}
)
genre_vectors = encode(genres or ["none"], source_encoder)


def encode_source(lines):
    return encode(lines, source_encoder)


rivals = {
    source: teachers.source_vectors(source, texts, read, catalogue, encode_source, latest, seed)
    for source in teachers.TEACHERS
}

# %%
valid = events[(events["split"] == "valid") & events["user"].isin(users)].set_index("user")["item"]
rows = np.flatnonzero(np.isin(users, valid.index))
targets = valid[users[rows]].to_numpy()
of_item = items.set_index("item")["categories"].reindex(targets) if "categories" in items else pd.Series("", targets)
relevant = np.array([[name in str(value).split("|") for name in genres or ["none"]] for value in of_item])

# %%
seen = [read[user]["item"].to_numpy() for user in users[rows]]
some = {source: source_rows[rows] for source, source_rows in rivals.items()}
columns = ["source", "category_auc", "item_percentile", "recall@10", "ndcg@10", "delta", "ci_low", "ci_high", "p_holm"]
carried = pd.DataFrame(columns=columns)
if len(rows):
    carried = compare_sources(some, catalogue, genre_vectors, relevant, targets, seen)
else:
    print("Under this protocol the users with a validation item have no profile, so this test is not possible.")
save_csv(carried, home / "tables" / "zero-shot.csv")
report.format_table(carried, [*columns[:6], "p_holm"])

# %% [markdown]
# `item_percentile` is 1 if the item is ranked first, and .5 by chance; `category_auc` is .5 by chance; `delta` is the
# difference in percentile from another user's profile, shown below with its 95 % interval over users.

# %%
bars = carried.dropna(subset="delta").reset_index(drop=True)
if len(bars):
    best = bars.loc[bars["delta"].idxmax()]
    text = "Highest gain: {source}, {delta:+.4f} [{ci_low:+.4f}, {ci_high:+.4f}] over a random profile."
    text = text.format(**best)
    xlabel = "gain in item percentile over a random profile"
    figure = forest(bars, "How well each source ranks the next choice", "source", "delta", xlabel)
    report.show_figure(figure, bars, home / "figures" / "zero-shot.png", text)

# %% [markdown]
# Does a source rank the next choice higher than another user's profile does? (*p* is corrected for the number of
# alternatives; the interval is not.)

# %%
report.format_table(bars, ["source", "delta", "ci_low", "ci_high", "p_holm"])

# %% [markdown]
# Does a profile carry more than the history from which it was written? Each alternative against the user's own
# profile:

# %%
readable = {source: some[source] for source in ("profile", "facts", "raw-history", "item-text")}
rivalry = pd.DataFrame(columns=columns)
if len(rows):
    rivalry = compare_sources(readable, catalogue, genre_vectors, relevant, targets, seen, against="profile")
report.format_table(rivalry.dropna(subset="delta"), ["source", "delta", "ci_low", "ci_high", "p_holm"])

# %% [markdown]
# A difference is significant if the interval excludes zero and the corrected *p* is below .05. An interval above zero
# means that the alternative predicts the next choice better than the LLM's text: the text has lost information. Chapter
# 5 tests whether the profile is a good teacher all the same.

# %% [markdown]
# ## Can a profile be predicted without the LLM?
#
# An LLM call takes seconds per user. If a profile's vector can be predicted from vectors that need no LLM, the profiles
# of some users are enough for all users. A ridge regression predicts the profile's vector from those of `facts`,
# `raw-history` and `item-text`. It is fitted on an increasing number of users (`llm_calls`) and tested on one user in
# five.

# %%
cheap = np.hstack([teachers.centred(rivals[source]) for source in teachers.NO_LLM])
order = np.random.default_rng(seed).permutation(len(users))
tested, fitted = np.split(order, [len(users) // 5])


# %%
def held_out_r2(calls):
    ridge = RidgeCV(np.logspace(-2, 3, 11)).fit(cheap[fitted[:calls]], rivals["profile"][fitted[:calls]])
    return r2_score(rivals["profile"][tested], ridge.predict(cheap[tested]), multioutput="variance_weighted")


# %%
sizes = [round(share * len(fitted)) for share in (0.1, 0.25, 0.5, 1.0)]
extension = pd.DataFrame([{"llm_calls": calls, "r2": held_out_r2(calls)} for calls in sizes])
report.format_table(save_csv(extension, home / "tables" / "extension.csv"))

# %% [markdown]
# `r2` is the share of the variance of the profiles' vectors that the regression predicts. If it still rises with
# `llm_calls`, more profiles would improve the prediction. If the profile *is* the computed facts (`llm: facts`), the
# prediction is trivial.

# %% [markdown]
# Every alternative can be used as a teacher: it is reduced in the same way and stored beside the teacher, under its
# name. Sources listed in `everyone`, which need no LLM, also cover the users without a profile. Each file records its
# inputs: events, profile texts, encoder, reducer. These inputs, the texts and the encoder's version also give the
# teacher a name, by which a student recorded on another machine is found here. A teacher reduced with UMAP has no such
# name, because UMAP's result differs with the processor.

# %%
total = events["user"].max() + 1
made_from = {"events": key, "profiles": content_digest(profiles), "reducer": digest(settings)}
texts_read = [*teachers.item_texts(items), facts_text(read[users[0]], {})]
inputs = latest, texts_read, [encoders.encoder_key(name) for name in (encoder, source_encoder)]
for source, source_rows in rivals.items():
    owners = np.array(list(read)) if source in everyone else users
    if len(owners) > len(source_rows):
        texts_of = pd.Series("", index=owners)
        source_rows = teachers.source_vectors(source, texts_of, read, catalogue, encode_source, latest, seed)
    space, _ = reducers.fit(source_rows, reducer, components, neighbors, seed, metric)
    made_teacher = reducers.teacher_rows(space, owners, total)
    about = reducers.named({**made_from, "source": source, "encoder": source_encoder}, reducer, len(owners), *inputs)
    reducers.save_teacher(artifacts / f"teacher-{source}.safetensors", made_teacher, about)

# %% [markdown]
# ## Save
#
# The teacher is standardised per dimension. A user without a profile has a row of NaN and is left out of the
# reconstruction loss. If a user has several profiles (strategy `several`), their mean is saved.

# %%
about = reducers.named({**made_from, "source": teacher, "encoder": encoder}, reducer, *inputs)
handed, owners = reduced, users
if teacher == "profile" and texts.index.has_duplicates:
    handed, owners = transform(encode(texts.tolist())), texts.index
reducers.save_teacher(artifacts / "teacher.safetensors", reducers.teacher_rows(handed, owners, total), about)
numbers = {f"{row['space']} {name}": row[name] for row in kept.to_dict("records") for name in list(kept.columns)[1:3]}
ranked = carried.dropna(subset="item_percentile")
numbers |= {f"{row['source']} item_percentile": row["item_percentile"] for row in ranked.to_dict("records")}
numbers |= {"same_genre": agree, "same_genre_reduced": after, "same_genre_chance": chance}
report.record_metrics(home, "03-embeddings", numbers)

# %% [markdown]
# ## Limits
#
# UMAP preserves neighbourhoods, not distances, and its result depends on the seed. `make bench-umap` measures its time
# at 600, 6,000 and 20,000 users; for hundreds of thousands, fit it on a sample and `transform` the rest, or use cuML's
# UMAP on a GPU. The test of the profiles uses text similarity only. A student can learn more from a vector than its
# cosine shows, and `raw-history` has an advantage: its lines are worded like the items.
