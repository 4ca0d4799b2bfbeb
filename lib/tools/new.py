"""A folder of CSV files -> a data set of one's own and its preset, which needs no LLM: `make new`."""

import argparse
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from math import log2
from pathlib import Path
from string import Template

import pandas as pd
import presets
import yaml
from command import one_line
from guess import LIKE, Found, guess, head, tried
from seqdistill.data import generic
from seqdistill.data.checks import ID, read_csv
from seqdistill.data.layouts import LAYOUTS
from seqdistill.data.store import home_of
from seqdistill.data.tables import Dataset, filtered, statistics
from seqdistill.io import UserError, atomic_write, data_dir, display_path
from seqdistill.profiles.facts import FIELDS

ROLES, TEMPLATES = ("users", "items", "interactions"), Path(__file__).parent / "templates"
NAMED = re.compile(r"^[^.].*\.(csv|tsv|txt)(\.gz)?$", re.I)
OWN = (*LAYOUTS, "default", "smoke", "full")
FEWEST = 30  # users: chapter 3 compares each with the nearest ten
UPDATES = 2_100  # about so many, of a student as the book has searched it, on MovieLens small as on Beauty
SPEED = 7e10  # floating point operations of training per second and core
RUNS, MORE = 18, 4  # runs of 04 (six variants, three seeds); those of the other chapters are so many times as many


def flow(value: object) -> str:
    """Write a value as YAML on one line."""
    line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
    return line.removesuffix("\n").removesuffix("\n...")


def filled(template: str, **values: object) -> str:
    """Put values into a file of templates/."""
    return Template((TEMPLATES / template).read_text()).substitute({name: flow(of) for name, of in values.items()})


def put(path: Path, target: Path, own: str, delimiter: str, order: bool = False) -> None:
    """Copy a file; write it anew where its delimiter is not that of all, or the order of its rows must be told."""
    if own == delimiter and not order:
        shutil.copyfile(path, target.with_name(target.name + ".gz" * (path.suffix.lower() == ".gz")))
        return
    table = read_csv(path, {}, texts=True, delimiter=own)
    table = table.assign(position=range(len(table))) if order else table
    table.to_csv(target, sep=delimiter, index=False)


def told(path: Path, paths: list[Path]) -> Found:
    """Find the files of which a dataset.yaml speaks, by its columns; of several, one whose name is like the role."""
    settings, faults, files = generic.settings_of(path), {}, {}
    heads = tried(lambda one: head(one, settings.delimiter), paths, faults)
    columns, items = settings.interactions, settings.items
    unordered = columns.format == columns.time == "position"
    wanted = {
        "interactions": [columns.user, columns.item, None if unordered else columns.time, columns.rating],
        "items": [items.id, items.title, items.categories, items.year],
        "users": [settings.users.id],
    }
    for role, names in wanted.items():
        names = [name for name in names if name]
        fitting = [one for one in heads if one not in files.values() and {*names} <= {*heads[one][1]}]
        if role == "users":  # which others that hold events name, too
            fitting = [one for one in fitting if columns.item not in heads[one][1]]
        elif not fitting:
            raise UserError(f"{display_path(path)}, {role}: no file has the columns {', '.join(names)}.")
        word = LIKE.get(role.removesuffix("s"), role)
        rank = [(one.name.split(".")[0] == role, bool(re.search(word, one.name, re.I)), one) for one in fitting]
        if rank:
            files[role] = max(rank)[-1]
    unordered &= columns.time not in heads[files["interactions"]][1]
    return Found(files, asdict(settings), {one: mark for one, (mark, _) in heads.items()}, unordered, faults)


def stage(name: str, source: Path, raw: Path) -> Dataset:
    """Put the files of a folder into `raw`, with its dataset.yaml or one that is guessed; print it, check the whole."""
    if not source.is_dir():
        raise UserError(f"FROM: {source} is no folder; one with CSV files is expected.")
    paths = sorted(path for path in source.iterdir() if path.is_file() and NAMED.search(path.name))
    if len(paths) < 2:
        raise UserError(f"FROM: {len(paths)} CSV files in {source}; interactions and a list of items are expected.")
    if (own := source / "dataset.yaml").is_file():
        found, text = told(own, paths), own.read_text("utf-8")
    else:
        try:
            found = guess(name, paths)
        except UserError as error:
            raise UserError(f"{error} If the files are right, a dataset.yaml in {source} replaces the guess.") from None
        text = filled("dataset.yaml", name=name, **found.settings)
    files, settings = found.files, found.settings
    events, delimiter = files["interactions"], settings["delimiter"]
    for role, path in files.items():
        put(path, raw / f"{role}.csv", found.delimiters[path], delimiter, found.unordered and path == events)
    if "users" not in files:
        user = settings["interactions"]["user"]
        ids = read_csv(events, {user: ID}, delimiter=found.delimiters[events])[user].cat.categories
        pd.DataFrame({settings["users"]["id"]: ids}).to_csv(raw / "users.csv", sep=delimiter, index=False)
    (raw / "dataset.yaml").write_text(text, "utf-8")
    for role in ("interactions", "items", "users"):
        print(f"{role}: {files[role].name if role in files else f'all of {events.name}'}, {flow(settings[role])}")
    if found.unordered:
        print("position: the order of the rows, as there is no time")
    print(f"all: {flow({part: settings[part] for part in ('delimiter', 'domain', 'unlisted')})}")
    for path in sorted({*paths} - {*files.values()}):
        print(f"left out: {found.faults.get(path, path.name)}")
    try:
        return generic.read(*(next(raw.glob(f"{role}.csv*")) for role in ROLES), raw / "dataset.yaml")
    except UserError as error:
        said = str(error)
        for role, path in files.items():
            said = re.sub(rf"\S*\b{role}\.csv(\.gz)?", lambda _, path=path: display_path(path), said)
        raise UserError(said) from None


def preset(name: str, whole: Dataset) -> tuple[str, str]:
    """Text of the preset, whose student is as large as the data allow, and what executing it will take, in words."""
    counts = {1: statistics(whole.events)}
    for minimum in (2, 3, 5):
        with suppress(UserError):
            counts[minimum] = statistics(filtered(whole, name, minimum).events)
    enough = [least for least in counts if counts[least]["interactions"] >= counts[1]["interactions"] / 2]
    users, items, events = (int(counts[max(enough)][part]) for part in ("users", "items", "interactions"))
    if users < FEWEST:
        raise UserError(f"{name}: {users} users with {max(enough)} events or more; {FEWEST} such users are expected.")
    known = "default" if events / users >= 20 else "amazon-beauty-5core"  # long histories, or short ones
    run = presets.values_of(known, "04-distillation")["sasrec"]
    sequences = users + events / run["model"]["length"]
    run["batch"] = min(256, max(16, 2 ** int(log2(sequences / 100))))
    run["epochs"] = min(60, max(16, round(UPDATES * run["batch"] / sequences)))
    width, near = min(64, 2 ** int(log2(users / 4))), 15 if users > 60 else 8
    text = filled(
        "preset.yaml", sasrec=run, data={"dataset": name, "minimum": max(enough), "protocol": "leave_one_out"},
        embeddings={"reducer": "pca", "components": width, "neighbors": near}, half=width // 2, near=near,
    )  # fmt: skip
    dim, cores = run["model"]["dim"], os.cpu_count()
    work = 6 * events * dim * (items + 12 * dim * run["model"]["blocks"]) * run["epochs"] * RUNS
    training = work / SPEED / cores / 60
    minutes = 3 + (users + items) / 3000 + training
    size = f"{users:,} users, {items:,} items, {events:,} events (users and items with {max(enough)} or more)"
    rare = int(counts[1]["items"]) - items
    size += f"; {rare:,} other items are never recommended (`minimum` in the preset)" * bool(rare)
    time = f"about {minutes:.0f} minutes to the answer (chapters 1 to 4)"
    time += f", {minutes + 5 + MORE * training:.0f} for the whole book, on {cores} cores"
    return text, f"size: {size}\ntakes: {time}"


def read_texts(whole: Dataset) -> str:
    """Say which columns of the items the teachers read, and which they do not."""
    columns = [column for column in ("title", "categories", *FIELDS) if column in whole.items]
    texts = [column for column in columns if whole.items[column].fillna("").ne("").any()]
    none = "; without categories the facts are little more than the latest titles: look at the teacher item-text first"
    unread = [column for column in whole.items if column not in ("item", "item_id", "year", *columns)]
    how = "; `texts: {description: that column}` under `items` of dataset.yaml has one read"
    said = [f"item texts: {', '.join(texts)}" + none * ("categories" not in texts)]
    said += [f"not read: {', '.join(unread)}{how}"] * bool(unread)
    return "\n".join(said + [note for note in whole.notes if "not in the list of items" in note])


def create(name: str, source: Path, force: bool) -> None:
    """Make a data set and its preset out of a folder; what is there is replaced with `force` alone."""
    raw, path = home_of(name) / "raw", presets.PRESETS / f"{name}.yaml"
    if name in OWN:
        raise UserError(f"DATASET={name}: the book has a data set or a preset of that name; choose another.")
    there = [raw / "dataset.yaml"] + [old for role in ROLES for old in sorted(raw.glob(f"{role}.*"))]
    if not force and (old := next(filter(Path.exists, [path, *there]), None)):
        raise UserError(f"{display_path(old)} is there; FORCE=1 replaces it.")
    data_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir()) as folder:
        whole = stage(name, source, Path(folder))
        text, size = preset(name, whole)
        raw.mkdir(parents=True, exist_ok=True)
        for old in filter(Path.exists, [raw / "dataset.yaml", path]):  # they may have been edited
            os.replace(old, old.with_suffix(".yaml.old"))
            print(f"kept: the former {display_path(old)} as {old.name}.old; what you edited there holds no longer")
        for old in filter(Path.exists, there):
            old.unlink()
        for file in Path(folder).iterdir():
            os.replace(file, raw / file.name)
    with atomic_write(path) as temporary:
        temporary.write_text(text)
    print(read_texts(whole), size, f"written: {display_path(raw)}/ and {display_path(path)}", sep="\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("source")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    with one_line("new"):
        if not options.name or not options.source:
            raise UserError("DATASET= names the new data set, FROM= the folder of its CSV files.")
        try:
            create(options.name, Path(options.source), options.force)
        except UserError as error:
            raise UserError(f"{error} Nothing was written.") from None
        presets.check_preset(options.name)


if __name__ == "__main__":
    main()
