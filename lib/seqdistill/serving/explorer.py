"""One user at a time: history, profile, neighbours, what two students recommend, and what one more event changes."""

from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib import pyplot as plt

from seqdistill.config import Distillation, TrainConfig, parse
from seqdistill.data.sequences import Ragged
from seqdistill.embeddings.reducers import load_reducer
from seqdistill.evaluation.ranking import model_score, recommend
from seqdistill.io import UserError, display_path, load_json, load_table, table_key
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.reporting import figures, report
from seqdistill.training.sweep import Job, run_folder
from seqdistill.training.train import load_model, load_training_data

K = 10


@dataclass(frozen=True)
class World:
    """What the chapters before left about everybody.

    events: user, item, time, split, sorted by user and time. titles: by item. names: the users' own ids, by user.
    texts: profile by user. places: x and y on the map, by user. vectors: of the profiles, unit length, [n, e], in the
    order of `places`. students: name -> model.
    """

    events: pd.DataFrame
    titles: pd.Series
    names: pd.Series
    texts: pd.Series
    places: pd.DataFrame
    vectors: np.ndarray
    students: dict[str, SequentialRecommender]


def load(home: Path, model: str, seed: int) -> World:
    """Read what 01 to 04 left in a preset's folder, and the students of one seed: plain and, if trained, distilled.

    Raises:
        UserError: a table or a run is missing or stale, or 04 trained no such model.
    """
    artifacts = home / "artifacts"
    key = table_key(artifacts / "events.parquet")
    events, items, users, profiles = (
        load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items", "users", "profiles")
    )
    texts = profiles.groupby("user", sort=False)["text"].agg("\n".join)
    vectors, _ = load_reducer(artifacts / "reducer.safetensors")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    places = pd.read_csv(home / "figures" / "map.csv")[["x", "y"]]
    if not len(places) == len(vectors) == len(texts):
        raise UserError(
            f"{display_path(home / 'figures' / 'map.csv')}: stale, made for other users; run 03-embeddings again."
        )
    ids = items["item_id"].astype(str)
    titles = (items["title"].fillna(ids) if "title" in items else ids).set_axis(items["item"])
    names = users.set_index("user")["user_id"]
    return World(events, titles, names, texts, places.set_axis(texts.index), vectors, students(home, model, seed))


def students(home: Path, model: str, seed: int, forms: tuple[str, ...] = ()) -> dict[str, SequentialRecommender]:
    """Load those students that 04 trained with a seed, or the named forms ("plain", "distilled") alone.

    Raises:
        UserError: 04 trained no such model, or not in a form (at least plain is wanted) with this seed.
    """
    chosen = load_json(home / "artifacts" / "student.json")["students"]
    if model not in chosen:
        raise UserError(f'04 trained no "{model}"; there is {", ".join(chosen)}.')
    run = replace(parse(TrainConfig, chosen[model]["run"], "student.json"), seed=seed)
    taught = replace(run, distillation=parse(Distillation, chosen[model]["teacher"], "student.json"))
    given = load_training_data(home / "artifacts")
    jobs = {"plain": Job(run, given), "distilled": Job(taught, given)}
    folders = {form: run_folder(job, home / "runs") for form, job in jobs.items()}
    there = [form for form, folder in folders.items() if (folder / "metrics.json").exists()]
    if wrong := [form for form in forms or ["plain"] if form not in there]:
        raise UserError(f'04 trained no {model} "{wrong[0]}" with seed {seed}; there is {", ".join(there) or "none"}.')
    return {form: load_model(folders[form]) for form in forms or there}


def history(world: World, user: int) -> pd.DataFrame:
    """Events of a user before the test targets, in order."""
    own = world.events[world.events["user"] == user]
    return own[own["split"] != "test"]


def later(world: World, user: int) -> set[int]:
    """Items that a user chose afterwards: the test targets, which no student has seen."""
    own = world.events[world.events["user"] == user]
    return set(own.loc[own["split"] == "test", "item"])


def latest(world: World, user: int) -> pd.DataFrame:
    """Titles of a user's last events, the latest first."""
    own = history(world, user).tail(K)[::-1]
    return pd.DataFrame({"title": world.titles[own["item"]].to_numpy()}, index=range(1, len(own) + 1))


def neighbours(world: World, user: int, k: int = 5) -> pd.Series:
    """Users whose profiles are most similar, and the cosine: user -> similarity, the nearest first."""
    row = world.places.index.get_loc(user)
    cosines = pd.Series(world.vectors @ world.vectors[row], world.places.index).drop(user)
    return cosines.nlargest(k)


def introduced(world: World, user: int) -> pd.DataFrame:
    """Neighbours as a table for the page: who, how similar, and how their profiles begin."""
    near = neighbours(world, user)
    begin = [f"{world.texts[other][:80].rsplit(' ', 1)[0]} ..." for other in near.index]
    told = {"user": world.names[near.index].to_numpy(), "cosine": near.map("{:.4f}".format).to_numpy()}
    return pd.DataFrame({**told, "profile": begin}).set_index("user")


def placed(world: World, user: int) -> pd.DataFrame:
    """Places of all profiles on the map: x, y, and who it is (everybody, neighbours or the user)."""
    who = pd.Series("everybody", world.places.index)
    who[neighbours(world, user).index], who[user] = "neighbours", "the user"
    return world.places.assign(who=who)


def best(model: SequentialRecommender, items: np.ndarray) -> list[int]:
    """Ids of the K items that a student recommends after a history of items, none of them in it."""
    row = Ragged(items, np.array([0]), np.array([len(items)]), np.array([0]))
    return recommend(row, model_score(model), K)[0].tolist()


def recommended(world: World, user: int, added: tuple[int, ...] = ()) -> dict[str, list[int]]:
    """Ids that each student recommends to a user, after the history and, if given, more events."""
    items = np.append(history(world, user)["item"].to_numpy(), np.array(added, dtype=np.int64))
    return {name: best(model, items) for name, model in world.students.items()}


def side_by_side(world: World, user: int) -> pd.DataFrame:
    """What each student recommends, the best first; a tick marks what the user really chose later."""
    chosen, lists = later(world, user), recommended(world, user)
    told = {
        name: [world.titles[item] + (" ✓" if item in chosen else "") for item in items] for name, items in lists.items()
    }
    return pd.DataFrame(told, index=range(1, K + 1))


def changed(world: World, user: int, item: int) -> pd.DataFrame:
    """What each student recommends once the user has chosen `item` as well, and how that differs from before."""
    before, after, told = recommended(world, user), recommended(world, user, (item,)), {}
    for name, items in after.items():
        told[name] = world.titles[items].tolist()
        told[f"{name}: before"] = [before[name].index(one) + 1 if one in before[name] else "new" for one in items]
    return pd.DataFrame(told, index=range(1, K + 1))


def panel(world: World, user: int) -> ipywidgets.Widget:
    """Two menus, whose choice is a user and an event to add, and all of the above for it."""
    users = ipywidgets.Dropdown(options=[(str(world.names[one]), one) for one in world.texts.index], value=user)
    events = sorted((title, item) for item, title in world.titles.items())
    added = ipywidgets.Dropdown(options=[("nothing", 0), *events], value=0)
    users.description, added.description = "user", "add"

    def show(user: int, item: int) -> None:
        display(Markdown(f"> {report.escaped(world.texts[user])}"), latest(world, user), introduced(world, user))
        figure = figures.explore(placed(world, user))
        display(figure, side_by_side(world, user))
        plt.close(figure)
        if item:
            display(changed(world, user, item))

    return ipywidgets.VBox([users, added, ipywidgets.interactive_output(show, {"user": users, "item": added})])
