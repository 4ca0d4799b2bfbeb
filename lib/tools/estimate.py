"""What profiles of many users take, from those that a preset has measured: `make estimate USERS=1000000 PRESET=...`."""

import pandas as pd
from presets import values_of
from seqdistill.io import UserError, display_path, load_csv, outputs_dir
from seqdistill.profiles.generate import shipped_path, worded
from seqdistill.profiles.llm import FACTS

FLOAT = 4  # bytes of a number of a vector


def estimate(preset: str, users: int, rate: float | None) -> dict[str, str]:
    """Scale tokens, hours, storage and cost of a preset's own row of tables/profiles.csv to a number of users.

    rate: tokens a second that a server reads and writes; by default what the profiles here took.
    """
    values, path = values_of(preset, "02-profiles"), outputs_dir(preset) / "tables" / "profiles.csv"
    width = values_of(preset, "03-embeddings")["components"]
    teacher = {"teacher": f"{users * width * FLOAT / 1e9:,.2f} GB ({width} numbers a user)"}
    if values["llm"] == FACTS:
        return {"profiles": "facts computed from the histories; they need no LLM, no requests and no tokens"} | teacher
    if not path.exists():
        raise UserError(
            f"{display_path(path)}: no such file; run `make reproduce PRESET={preset} NOTEBOOK=02-profiles`."
        )
    rows = load_csv(path)
    rows = rows[(rows["llm"] == values["llm"]) & (rows["style"] == worded(values["style"], values["strategy"]))]
    if rows.empty:
        raise UserError(f"{display_path(path)}: no row of {values['llm']} in style {values['style']}.")
    row = rows.iloc[-1]
    prompt, output = (users * row[name] / row["covered"] for name in ("prompt_tokens", "output_tokens"))
    own = (row["prompt_tokens"] + row["output_tokens"]) * values["parallel"] / row["seconds"]
    how, rate = ("RATE" if rate else f"as when they were written, {values['parallel']} at a time"), rate or own
    found = {
        "measured": f"{row['llm']}, {row['style']}: {row['covered']:,} users",
        "users": f"{users:,}",
        "prompt tokens": f"{prompt:,.0f} ({prompt / users:,.0f} a user)",
        "output tokens": f"{output:,.0f} ({output / users:,.0f} a user)",
        "hours": f"{(prompt + output) / rate / 3600:,.1f} at {rate:,.0f} tokens a second ({how})",
    }
    texts = shipped_path(row["dataset"], values["llm"], values["style"], values["strategy"])
    if texts.exists():
        each = texts.stat().st_size / len(pd.read_parquet(texts, columns=["user_id"]))
        found["texts"] = f"{users * each / 1e9:,.2f} GB ({each:,.0f} bytes a user)"
    found |= teacher
    if values["prices"]:
        found["cost"] = f"{(prompt * values['prices'][0] + output * values['prices'][1]) / 1e6:,.2f}"
    return found


def print_estimate(preset: str, users: str, rate: str) -> None:
    """Print the estimate for what a user wrote as USERS= and RATE=, which may be empty."""
    try:
        numbers = int(users), float(rate) if rate else None
    except ValueError:
        numbers = 0, None
    if numbers[0] < 1 or (rate and not numbers[1] > 0):
        raise UserError(f"USERS={users}, RATE={rate}: numbers above 0 are expected.")
    for name, value in estimate(preset, *numbers).items():
        print(f"{name:14} {value}")
