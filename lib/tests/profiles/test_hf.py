import shutil

import pytest
import torch
from huggingface_hub import constants
from seqdistill.io import UserError
from seqdistill.profiles.chat import Failure
from seqdistill.profiles.hf import model_folder
from seqdistill.profiles.llm import model_sha256, open_llm
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of one block with random weights and a word tokenizer, saved as transformers saves models."""
    words = ["<pad>", "</s>", "<unk>", "<user>", "<assistant>", *"abcdefghijklmnopqrstuvwxyz"]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, chat_template=TEMPLATE, **special)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=64, eos_token_id=1, pad_token_id=0, **shape)
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def chats(*texts):
    return [[{"role": "system", "content": "s"}, {"role": "user", "content": text}] for text in texts]


SETTINGS = {"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_tokens": 8}


def test_a_local_folder_answers_in_batches_as_it_answers_one_by_one(folder):
    model, alone = (open_llm(f"transformers:{folder}", 64, size) for size in (2, 1))
    texts = ["a", "b c d e f g", "h " * 100, "i j"]
    answers, single = (dict(one.answers(chats(*texts), SETTINGS)) for one in (model, alone))
    assert answers.pop(2) == single.pop(2) == Failure("overlong prompt", final=True)
    assert {row: answer.text for row, answer in answers.items()} == {row: made.text for row, made in single.items()}
    assert {answer.finish for answer in answers.values()} == {"length"}, "cut, and asked once more with four times 8"
    assert all(answer.output_tokens == 32 for answer in answers.values())
    # "<user> s a </s> <assistant>": a template without a system role gets it before the user's message.
    assert [answers[row].prompt_tokens for row in (0, 1, 3)] == [5, 10, 6]
    assert model.count_tokens(["a b", ""]) == [2, 0]


def test_a_seed_gives_the_same_text_another_seed_another_and_the_process_keeps_its_own(folder):
    model, state = open_llm(f"transformers:{folder}", 64), torch.get_rng_state()
    settings = SETTINGS | {"temperature": 1.0, "max_tokens": 20}
    first, again, other = (dict(model.answers(chats("a"), settings | {"seed": seed}))[0].text for seed in (0, 0, 1))
    assert first == again != other and torch.equal(torch.get_rng_state(), state)


def test_the_key_is_the_content_of_the_folder(folder, tmp_path):
    copy, keys = shutil.copytree(folder, tmp_path / "copy"), [model_sha256(f"transformers:{folder}")]
    (copy / ".cache").mkdir(), (copy / "1_Pooling").mkdir()
    for name in (".cache/state.json", "config.json", "1_Pooling/config.json", "vocab.txt", "1_Pooling/vocab.txt"):
        (copy / name).write_text("{}")
        keys.append(model_sha256(f"transformers:{copy}"))
    assert keys[1] == keys[0], "what a download leaves is no part of a model"
    assert len(set(keys)) == 5


def test_wrong_folders_and_names_are_named(folder, tmp_path, monkeypatch):
    for use in (model_sha256, open_llm):
        with pytest.raises(UserError, match=r"no \.safetensors file"):
            use(f"transformers:{tmp_path}")
    with pytest.raises(UserError, match="its context is 64 tokens; `context` is 65"):
        open_llm(f"transformers:{folder}", 65)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="copy: its tokenizer has no chat template"):
        open_llm(f"transformers:{copy}")
    (copy / "config.json").write_text("{}")
    with pytest.raises(UserError, match="copy: not a causal language model"):
        open_llm(f"transformers:{copy}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    unknown = {"transformers:no/such": '"no/such" is no local folder, and the hub did not give it .*OFFLINE is set'}
    unknown |= {"ollama:llama": '"ollama:llama" is not a known model; choose one of .*, openai:<model>'}
    for name, says in unknown.items():
        with pytest.raises(UserError, match=says):
            model_sha256(name)


def test_a_hub_name_may_pin_a_commit(monkeypatch, tmp_path):
    asked = []
    fetch = lambda name, **how: asked.append((name, how["revision"])) or tmp_path  # noqa: E731
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert model_folder("google-t5/t5-small@df1b051") == tmp_path and model_folder("google-t5/t5-small") == tmp_path
    assert asked == [("google-t5/t5-small", "df1b051"), ("google-t5/t5-small", None)]
