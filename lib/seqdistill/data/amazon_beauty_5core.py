"""Amazon Reviews 2014, Beauty, 5-core, as three CSV files with item order but no times and no ratings."""

from functools import partial

from seqdistill.data import generic
from seqdistill.data.tables import Layout

COLUMNS = generic.Settings(
    domain="beauty",
    items=generic.Items(categories="category", separator=" > ", root=True),
    interactions=generic.Interactions(time="position", format="position"),
)
LAYOUT = Layout(
    files=generic.FILES,
    read=partial(generic.read, settings=COLUMNS),
    source="22,363 users, 12,101 items, 198,502 interactions; users.csv: user_id; items.csv: item_id, title, brand, "
    "category (a path like Beauty > Makeup > Nails); interactions.csv: user_id, item_id, position",
)
