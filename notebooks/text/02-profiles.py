# %% [markdown]
# # 2 · Can an LLM say who a user is?
#
# The teacher of this book is a paragraph of text: what a language model writes about a user after reading the
# user's training history (Severin et al., ECIR 2026, section 3.1). Here every user gets one, and we check how much
# of what it says is true.

# %% tags=["parameters"]
preset = "default"
llm = "qwen2.5-coder-0.5b"
style = "grounded"
live_users = 3
live_llm = "qwen2.5-coder-0.5b"

# %%
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from seqdistill import profiles, report
from seqdistill.artifacts import BookError, data_dir, load_table, outputs_dir, save_csv, save_table, table_key
from seqdistill.llm import LlamaCpp, local_weights

home = outputs_dir(preset)
artifacts = home / "artifacts"
report.style()

# %% [markdown]
# ## What the model may read: training events, nothing else
#
# `histories` refuses any event outside the training split, so no test event can reach a profile.

# %%
key = table_key(artifacts / "events.parquet")
events, items, users = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items", "users"))
histories = profiles.histories(events[events["split"] == "train"], items)
next(iter(histories.values()))[["title", "categories", "value"]].head()

# %% [markdown]
# ## From history to prompt
#
# A model of half a billion parameters cannot count genres over a hundred titles. So the counting is done here, and
# the model is asked to put the facts into words (style `grounded`). A large model would read the raw history
# instead.

# %%
dataset, questions = profiles.questions_of(artifacts, llm, style)
print(questions[0].messages[0]["content"], questions[0].messages[-1]["content"], sep="\n\n")

# %% [markdown]
# ## Ask, or know already
#
# An answer is kept under the digest of weights, prompt and sampling settings. The book ships the answers that this
# very model gave to these very prompts; one is used only if all of its keys equal what would be asked now. The
# rest is asked here.

# %%
shipped = profiles.shipped(profiles.shipped_path(dataset, llm, style), questions)
store = profiles.Store(data_dir() / "cache" / "answers.sqlite")
missing = [question for question in questions if question.key not in shipped]
print(f"{len(questions)} users: {len(shipped)} shipped answers fit, {len(missing)} are left to be asked")

# %%
path = local_weights(llm) if missing else None
if missing and path is None:
    raise BookError(f"{len(missing)} users have no profile, and the weights of {llm} are not here: run `make weights`.")
for _ in profiles.generate(LlamaCpp(llm, path), missing, store) if missing else ():
    pass

# %%
answers = shipped | store.get([question.key for question in missing])
texts = profiles.rows_of(questions, answers).assign(user=list(histories))
Markdown("> " + texts["text"].iloc[0])

# %% [markdown]
# ## Is it true?
#
# For every user we count the categories that the profile names, how many of them are among the user's most frequent
# or best rated, and how many any fact of the prompt names (the worst rated and the fading as well: a profile that
# turns a fact round is not caught by this count); and the titles in quotation marks, and how many of them the user
# really rated.

# %%
vocabulary = sorted({name for history in histories.values() for names in history["categories"] for name in names})
checked = pd.DataFrame(
    [profiles.fidelity(row.text, histories[row.user], vocabulary) for row in texts.itertuples()], index=texts["user"]
)
totals = checked.sum()

# %%
shares = {
    "categories among the most frequent or best rated": totals["categories_liked"] / max(totals["categories_named"], 1),
    "categories named by a fact": totals["categories_supported"] / max(totals["categories_named"], 1),
    "titles really rated": totals["titles_seen"] / max(totals["titles_named"], 1),
    "answers cut off": (texts["finish"] != "stop").mean(),
}
Markdown("\n".join(f"* {name}: **{share:.1%}**" for name, share in shares.items()))

# %% [markdown]
# The same per user. A user in the left bars has a profile that is wrong about genres or titles; it is kept, since
# the student should face what this model really writes.

# %%
per_user = pd.DataFrame(
    {
        "categories": checked["categories_supported"] / checked["categories_named"],
        "titles": checked["titles_seen"] / checked["titles_named"],
    }
)
figure, axes = plt.subplots(1, 2, sharey=True)
for ax, (column, found) in zip(axes, {"categories": "facts", "titles": "history"}.items(), strict=True):
    ax.hist(per_user[column].dropna(), bins=10, range=(0, 1))
    ax.set(xlabel=f"share of named {column} found in the {found}")
axes[0].set_ylabel("users")
report.save_figure(figure, per_user.reset_index(), home / "figures" / "fidelity.png")

# %% [markdown]
# The least faithful profile of all, in full:

# %%
worst = per_user.fillna(1).sum(axis=1).idxmin()
Markdown("> " + texts.set_index("user")["text"].loc[worst])

# %%
row = {"dataset": dataset, "llm": llm, "style": style, "users": len(users), "covered": len(texts)}
row |= {name: texts[name].sum() for name in ("prompt_tokens", "output_tokens", "seconds")}
row["unsupported_share"] = 1 - shares["categories named by a fact"]
row["unseen_title_share"] = 1 - shares["titles really rated"]
table = save_csv(pd.DataFrame([row]), home / "tables" / "profiles.csv")
table.T.astype(str).rename(columns={0: "value"})

# %% [markdown]
# `seconds` adds up what each answer took while eight were written at a time, so the wall time is about an eighth
# of it.
#
# ## Live
#
# A few users are asked again, now, so that the shipped answers need not be believed. Equal text is not expected:
# with several answers in flight, rounding differs from run to run. Where the weights are not here, the first line
# below says so.

# %%
live_path = local_weights(live_llm) if live_users else None
live = profiles.ask_now(LlamaCpp(live_llm, live_path, parallel=1), questions[:live_users]) if live_path else []

# %% tags=["nbval-ignore-output"]
print(
    f"{len(live)} profiles written by {live_llm}" if live else f"the weights of {live_llm} are not here: none written"
)
for question, text in zip(questions, live, strict=False):
    print(f"user {question.user_id}, shipped:", textwrap.fill(answers[question.key].text, 110), sep="\n")
    print("live:", textwrap.fill(text, 110), "", sep="\n")

# %% [markdown]
# ## Hand over
#
# The profiles carry the key of the events that they were written from: later chapters refuse them beside others.

# %%
save_table(texts[["user", "text"]], artifacts / "profiles.parquet", key)
counts = {name: int(value) for name, value in totals.items()}
report.record(home, "02-profiles", {"users": len(users), "covered": len(texts), **counts})

# %% [markdown]
# ## Limits
#
# A half-billion-parameter model verbalises facts; it adds little world knowledge of its own, copies the wording of
# its examples, and sometimes reports a trend the wrong way round. The paper's model has nine billion parameters
# and reads the raw history.
