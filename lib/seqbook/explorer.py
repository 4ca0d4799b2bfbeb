"""One user at a time: history, profile, neighbours, what two students recommend, and what one more event changes."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from seqdistill.data.sequences import Ragged
from seqdistill.embeddings.reducers import load_reducer
from seqdistill.evaluation.ranking import model_score, recommend
from seqdistill.io import UserError, display_path, load_table, table_key
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.serving.export import titles_of
from seqdistill.training.sweep import plan, run_folder
from seqdistill.training.train import load_model, load_training_data

from seqbook.ablation import setups

K = 10


@dataclass(frozen=True)
class World:
    """What the earlier chapters wrote: titles by item; own ids, profiles, places and unit vectors [n, e] by user."""

    events: pd.DataFrame
    titles: pd.Series
    names: pd.Series
    texts: pd.Series
    places: pd.DataFrame
    vectors: np.ndarray
    students: dict[str, SequentialRecommender]


def load(home: Path, model: str, seed: int) -> World:
    """Read what 01 to 04 wrote into a preset's folder; UserError if something is missing or stale."""
    artifacts, map_file = home / "artifacts", home / "figures" / "map.csv"
    key, tables = table_key(artifacts / "events.parquet"), ("events", "items", "users", "profiles")
    events, items, users, profiles = (load_table(artifacts / f"{name}.parquet", key) for name in tables)
    texts = profiles.groupby("user", sort=False)["text"].agg("\n".join)
    vectors, _ = load_reducer(artifacts / "reducer.safetensors")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    places = pd.read_csv(map_file)[["x", "y"]]
    if not len(places) == len(vectors) == len(texts):
        raise UserError(f"{display_path(map_file)}: stale, made for other users; run 03-embeddings again.")
    titles, names = titles_of(items).set_axis(items["item"]), users.set_index("user")["user_id"]
    return World(events, titles, names, texts, places.set_axis(texts.index), vectors, students(home, model, seed))


def students(home: Path, model: str, seed: int, form: str = "plain") -> dict[str, SequentialRecommender]:
    """Load the students that 04 trained with a seed, "plain" and "distilled"; UserError if `form` is missing."""
    data = load_training_data(home / "artifacts")
    runs = setups(home, data, model, [seed], "loky", {})[0].runs
    jobs = plan({name: runs[name] for name in ("plain", "distilled")}, [seed], data)
    folders = {name: run_folder(job, home / "runs") for (name, _), job in jobs.items()}
    trained = {name: folder for name, folder in folders.items() if (folder / "metrics.json").exists()}
    if form not in trained:
        there = ", ".join(trained) or "none"
        raise UserError(f'04 trained no {model} "{form}" with seed {seed}; there is {there}.')
    return {name: load_model(folder) for name, folder in trained.items()}


def events_of(world: World, user: int, test: bool) -> np.ndarray:
    """Items of a user in order: the test targets, which no student has seen, or those before them."""
    events = world.events[world.events["user"] == user]
    return events.loc[(events["split"] == "test") == test, "item"].to_numpy()


def latest(world: World, user: int) -> pd.DataFrame:
    """Titles of a user's last events, the latest first."""
    items = events_of(world, user, test=False)[-K:][::-1]
    return pd.DataFrame({"title": world.titles[items].to_numpy()}, index=range(1, len(items) + 1))


def neighbours(world: World, user: int, k: int = 5) -> pd.Series:
    """Users whose profiles are most similar, and the cosine: user -> similarity, the nearest first."""
    cosines = world.vectors @ world.vectors[world.places.index.get_loc(user)]
    return pd.Series(cosines, world.places.index).drop(user).nlargest(k)


def introduced(world: World, user: int) -> pd.DataFrame:
    """Neighbours as a table: who, how similar, and how their profiles begin."""
    near = neighbours(world, user)
    begin = world.texts[near.index].map(lambda text: f"{text[:80].rsplit(' ', 1)[0]} ...")
    columns = {"user": world.names[near.index], "cosine": near.map("{:.4f}".format), "profile": begin}
    return pd.DataFrame(columns).set_index("user")


def placed(world: World, user: int) -> pd.DataFrame:
    """Places of all profiles on the map: x, y, and who it is (everybody, neighbours or the user)."""
    who = pd.Series("everybody", world.places.index)
    who[neighbours(world, user).index], who[user] = "neighbours", "the user"
    return world.places.assign(who=who)


def recommended(world: World, user: int, added: tuple[int, ...] = ()) -> dict[str, list[int]]:
    """The K (or all) items that each student recommends after the history and `added`, without the items in these."""
    items = np.array([*events_of(world, user, test=False), *added])
    row = Ragged(items, np.array([0]), np.array([len(items)]), np.array([0]))
    lists = {name: recommend(row, model_score(model), K)[0] for name, model in world.students.items()}
    return {name: items[items > 0].tolist() for name, items in lists.items()}


def side_by_side(world: World, user: int) -> pd.DataFrame:
    """What each student recommends, the best first; a tick marks the items that the user chose later."""
    ticked = world.titles.copy()
    ticked[np.unique(events_of(world, user, test=True))] += " ✓"
    lists = pd.DataFrame({name: ticked[items].to_numpy() for name, items in recommended(world, user).items()})
    return lists.set_axis(range(1, len(lists) + 1))


def changed(world: World, user: int, item: int) -> pd.DataFrame:
    """What each student recommends once the user has also chosen `item`, and each recommendation's rank before."""
    before, columns = recommended(world, user), {}
    for name, items in recommended(world, user, (item,)).items():
        ranks = {item: rank for rank, item in enumerate(before[name], 1)}
        columns[name] = world.titles[items].tolist()
        columns[f"{name}: before"] = [ranks.get(item, "new") for item in items]
    return pd.DataFrame(columns, index=range(1, len(items) + 1))


def panel(world: World, user: int, draw: Callable) -> object:
    """Two menus (a user, an event to add) and all of the above for the choice; `draw`: draws the map of `placed`."""
    names = [(str(world.names[user]), user) for user in world.texts.index]
    titles = sorted((title, item) for item, title in world.titles.items())
    users = ipywidgets.Dropdown(options=names, value=user, description="user")
    items = ipywidgets.Dropdown(options=[("nothing", 0), *titles], value=0, description="add")

    def show(user: int, item: int) -> None:
        profile = HTML(f"<blockquote>{html.escape(world.texts[user])}</blockquote>")
        figure = draw(placed(world, user))
        display(profile, latest(world, user), introduced(world, user), figure, side_by_side(world, user))
        plt.close(figure)
        if item:
            display(changed(world, user, item))

    return ipywidgets.VBox([users, items, ipywidgets.interactive_output(show, {"user": users, "item": items})])
