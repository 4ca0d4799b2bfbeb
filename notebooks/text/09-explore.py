# %% [markdown]
# # 9 · One user in detail
#
# Tables average over users. This chapter shows one user: the history, the profile, the nearest users, the
# recommendations with and without the teacher, and the effect of one more event.

# %% tags=["parameters"]
preset = "default"
model = "SASRec"
seed = 0

# %%
import os

from IPython.display import Markdown, display
from seqbook import explorer as explore
from seqbook.reporting import figures, report
from seqdistill.io import outputs_dir

home = outputs_dir(preset)
report.style()

# %% [markdown]
# Nothing is trained here. The profiles are those of chapter 2, the map is that of chapter 3, and the students are
# those of chapter 4 with one seed: `plain` and, if `forms` of 04 lists it, `distilled`, the paper's form.

# %%
world = explore.load(home, model, seed)
user = int(world.texts.index[0])
print(f"{len(world.texts)} users have a profile; this is the first of them, {world.names[user]}")

# %% [markdown]
# ## History
#
# The user's last events before the test targets, latest first.

# %%
explore.latest(world, user)

# %% [markdown]
# ## Profile
#
# The LLM's text, written from facts about the training events.

# %%
Markdown(f"> {report.escaped(world.texts[user])}")

# %% [markdown]
# ## Neighbours
#
# The users with the most similar profiles in the encoder's space.

# %% tags=["nbval-ignore-output"]
explore.introduced(world, user)

# %% [markdown]
# The same users on the map of all profiles. The map has two dimensions only: users who are near in the encoder's space
# need not be near on it.

# %%
nearest = explore.neighbours(world, user)
text = f"The {len(nearest)} nearest profiles have cosines from {nearest.min():.4f} to {nearest.max():.4f}."
places = explore.placed(world, user)
report.show_figure(figures.explore(places), places, home / "figures" / "explore.png", text)

# %% [markdown]
# ## Recommendations, side by side
#
# The top items of each student, seen items excluded. A tick marks an item that the user really chose later.

# %% tags=["nbval-ignore-output"]
explore.side_by_side(world, user)

# %% [markdown]
# ## One more event
#
# Suppose the user chooses the first item that `plain` recommends. The columns named `before` give each title's
# previous rank.

# %% tags=["nbval-ignore-output"]
first = explore.recommended(world, user)["plain"][0]
explore.changed(world, user, first)

# %% tags=["nbval-ignore-output"]
left = {
    name: len(set(items) & set(explore.recommended(world, user, (first,))[name]))
    for name, items in explore.recommended(world, user).items()
}
kept_items = ", ".join(f"{name} keeps **{count}** of {explore.K}" for name, count in left.items())
Markdown(f"After {report.escaped(world.titles[first])}: {kept_items}.")

# %% [markdown]
# ## Pick a user
#
# In JupyterLab the next cell shows two menus, to select a user and an event to add; everything above updates. In a
# headless run the cell prints a note instead.

# %%
headless = "TQDM_DISABLE" in os.environ
print("two menus, in JupyterLab") if headless else display(explore.panel(world, user, figures.explore))

# %% [markdown]
# ## Limits
#
# One user proves nothing, and a list that looks better need not be better: chapter 4 has the test. Titles are those of
# the data set, and a tick marks any later choice, whether or not it was recommended.
