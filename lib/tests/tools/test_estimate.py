import pytest
from estimate import estimate, print_estimate
from seqdistill.io import UserError, load_csv, outputs_dir


def test_tokens_and_hours_scale_with_the_users_from_the_presets_own_row():
    rows = load_csv(outputs_dir("default") / "tables" / "profiles.csv")
    row = rows[(rows["llm"] == "qwen2.5-coder-1.5b") & (rows["style"] == "grounded")].iloc[-1]
    found = estimate("default", 10 * int(row["covered"]), rate=1000.0)
    assert found["prompt tokens"].startswith(f"{10 * row['prompt_tokens']:,.0f} (")
    hours = 10 * (row["prompt_tokens"] + row["output_tokens"]) / 1000 / 3600
    assert found["hours"].startswith(f"{hours:,.1f} at 1,000 tokens a second")
    assert found["teacher"].endswith("(64 numbers a user)") and "texts" in found


def test_the_facts_need_no_llm(home):
    (home / "presets" / "mine.yaml").write_text("02-profiles: {llm: facts}")
    found = estimate("mine", 1_000_000, None)
    assert "need no LLM, no requests and no tokens" in found["profiles"] and found["teacher"].startswith("0.26 GB")


def test_a_preset_without_profiles_and_what_is_no_number_are_named():
    with pytest.raises(UserError, match="make reproduce PRESET=kion"):
        estimate("kion", 1, None)
    for users, rate in (("many", ""), ("0", ""), ("5", "fast"), ("5", "-1")):
        with pytest.raises(UserError, match=f"USERS={users}, RATE={rate}: numbers above 0"):
            print_estimate("default", users, rate)
