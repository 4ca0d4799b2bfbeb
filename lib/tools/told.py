"""What the CSV files of a folder hold, by the dataset.yaml that lies beside them."""

import re
from dataclasses import asdict
from pathlib import Path

from guess import LIKE, Found, head, tried
from seqdistill.data.generic import settings_of
from seqdistill.io import UserError, display_path


def told(path: Path, paths: list[Path]) -> Found:
    """Find the files of which a dataset.yaml speaks: those that have its columns, the one of the role's name first."""
    settings = settings_of(path)
    faults: dict[Path, UserError] = {}
    heads = tried(lambda one: head(one, settings.delimiter), paths, faults)
    columns, items = settings.interactions, settings.items
    unordered = columns.format == columns.time == "position"
    wanted = {
        "interactions": [columns.user, columns.item, None if unordered else columns.time, columns.rating],
        "items": [items.id, items.title, items.categories, items.year],
        "users": [settings.users.id],
    }
    files: dict[str, Path] = {}
    for role, names in wanted.items():
        names = [name for name in names if name]
        fitting = [one for one in heads if one not in files.values() and {*names} <= {*heads[one][1]}]
        if role == "users":  # which others that hold events name, too
            fitting = [one for one in fitting if columns.item not in heads[one][1]]
        elif not fitting:
            raise UserError(f"{display_path(path)}, {role}: no file has the columns {', '.join(names)}.")
        word = LIKE.get(role[:-1], role)
        rank = [(one.name.split(".")[0] == role, bool(re.search(word, one.name, re.I)), one) for one in fitting]
        files |= {role: max(rank)[-1]} if rank else {}
    marks = {one: mark for one, (mark, _) in heads.items()}
    unordered &= columns.time not in heads[files["interactions"]][1]
    return Found(files, asdict(settings), marks, unordered, faults)
