import pytest
from seqdistill.profiles.chat import Answer, Failure, read_answer

PROFILE = "A viewer of old war films and of comedies."
WITH_REASONING = [
    f"<think>The user likes\nwar.</think>\n\n{PROFILE}",
    f"The user likes war.\n</think>{PROFILE}",
    f"<thinking>one</thinking> <think>two</think>{PROFILE}",
    f"<think>a <think>b</think> c</think>{PROFILE}",
    f"{PROFILE}<reasoning>Was that right?</reasoning>",
    f"[THINK]war[/THINK]{PROFILE}",
    f"<seed:think>war</seed:think>{PROFILE}",
    f"<|START_THINKING|>war<|END_THINKING|>{PROFILE}",
    f"<|channel|>analysis<|message|>war<|end|><|start|>assistant<|channel|>final<|message|>{PROFILE}<|return|>",
    f"analysisThe user likes war.assistantfinal{PROFILE}",
    f"<|channel>thought\nwar<channel|>{PROFILE}",
]
UNENDING = ["<think>The user likes", "<think>war</think>", "<|channel|>analysis<|message|>The user", "analysisThe user"]
UNENDING += [f"{PROFILE} <think> but", "war</think>  "]


@pytest.mark.parametrize("text", WITH_REASONING)
def test_reasoning_is_no_part_of_an_answer(text):
    assert read_answer(text, 1, 2, 0.5, "stop") == Answer(PROFILE, 1, 2, 0.5, "stop")


def test_reasoning_that_never_ends_is_named_and_nothing_is_an_empty_answer():
    reasons = {text: read_answer(text, 1, 2, 0.5, "length") for text in [*UNENDING, ""]}
    assert reasons == dict.fromkeys([*UNENDING, ""], Failure("reasoning used up max_tokens"))
    stopped = {text: read_answer(text, 1, 2, 0.5, "stop").reason for text in [UNENDING[0], ""]}
    assert stopped == {UNENDING[0]: "reasoning used up max_tokens", "": "empty answer"}


def test_control_characters_are_removed_and_words_that_look_like_reasoning_are_not():
    text = 'A \x1b[31mviewer\x00 of\u200b \u202ewar\tfilms\nand thinking of <3 "Final Analysis"\x07.'
    assert read_answer(text, 1, 2, 0.5, "stop").text == 'A viewer of war\tfilms\nand thinking of <3 "Final Analysis".'
