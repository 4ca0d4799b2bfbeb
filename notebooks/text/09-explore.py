# %% [markdown]
# # 9 · What does it mean for one user?
#
# Tables average over users. Here is one of them: what this user chose, what the LLM wrote, who is near, what a student
# recommends with and without the teacher, and what one more event changes.

# %% tags=["parameters"]
preset = "default"
model = "SASRec"
seed = 0

# %%
import os

from IPython.display import Markdown, display
from seqdistill.serving import explorer as explore
from seqdistill.reporting import figures, report
from seqdistill.io import outputs_dir

home = outputs_dir(preset)
report.style()

# %% [markdown]
# Nothing is trained here. The profiles are those of chapter 2, the map is that of chapter 3, and the students are
# those of chapter 4 with one seed: `plain` and, where `forms` of 04 names it, `distilled`, the paper's form.

# %%
world = explore.load(home, model, seed)
user = int(world.texts.index[0])
print(f"{len(world.texts)} users have a profile; this is the first of them, {world.names[user]}")

# %% [markdown]
# ## History
#
# The user's last events before the test targets, the latest first.

# %%
explore.latest(world, user)

# %% [markdown]
# ## Profile
#
# What the LLM wrote after reading facts about the training events.

# %%
Markdown(f"> {report.escaped(world.texts[user])}")

# %% [markdown]
# ## Neighbours
#
# The users whose profiles the encoder finds most similar.

# %% tags=["nbval-ignore-output"]
explore.introduced(world, user)

# %% [markdown]
# The same users on the map of all profiles. Two dimensions are few: who is near in the encoder's space need not be near
# on the map.

# %%
nearest = explore.neighbours(world, user)
text = f"The {len(nearest)} nearest profiles have cosines from {nearest.min():.4f} to {nearest.max():.4f}."
places = explore.placed(world, user)
report.show_figure(figures.explore(places), places, home / "figures" / "explore.png", text)

# %% [markdown]
# ## Recommendations, side by side
#
# What each student puts first among all items that the user has not chosen yet. A tick marks what the user really chose
# later.

# %% tags=["nbval-ignore-output"]
explore.side_by_side(world, user)

# %% [markdown]
# ## One more event
#
# Suppose that the user takes the first item that `plain` recommends. The columns named `before` give the place that a
# title had until then.

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
# In JupyterLab the next cell shows two menus, a user and an event to add; all of the above follows them. Executed
# headlessly it stays still: the example above stands for it.

# %%
headless = "TQDM_DISABLE" in os.environ
print("two menus, in JupyterLab") if headless else display(explore.panel(world, user, figures.explore))

# %% [markdown]
# ## Limits
#
# One user proves nothing, and a list that looks better is not better: chapter 4 has the test. Titles are what the data
# gives, and ticks count what was chosen later from any list or none.

# %% tags=["nbval-ignore-output"]
print(report.cost())
