import pytest
from seqdistill.io import UserError
from seqdistill.profiles.chat import Answer
from seqdistill.profiles.hf import Transformers, transformers_sha256
from seqdistill.profiles.llm import model_sha256, open_llm

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of one block with random weights and a word tokenizer, saved as transformers saves models."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "<user>", "<assistant>", *"abcdefghijklmnopqrstuvwxyz"]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=64, eos_token_id=1, pad_token_id=0, **shape)
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def chats(*texts):
    return [[{"role": "system", "content": "s"}, {"role": "user", "content": text}] for text in texts]


def test_a_local_folder_answers_in_batches(folder):
    model = open_llm(f"transformers:{folder}", parallel=2)
    settings = {"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_tokens": 8}
    texts = ["a", "b c d e f g", "h " * 100, "i j"]
    found = dict(model.answers(chats(*texts), settings))
    assert found[2].reason == "overlong prompt"
    assert all(isinstance(found[index], Answer) and 0 < found[index].output_tokens <= 8 for index in (0, 1, 3))
    # "<user> s a </s> <assistant>": a template without a system role gets it before the user's message.
    assert [found[index].prompt_tokens for index in (0, 1, 3)] == [5, 10, 6]
    alone = dict(Transformers(str(folder), batch=1).answers(chats(*texts), settings))
    assert [alone[index].text for index in (0, 1, 3)] == [found[index].text for index in (0, 1, 3)]
    assert model.count_tokens(["a b", ""]) == [2, 0]


def test_a_seed_gives_the_same_text_and_another_seed_another(folder):
    model = Transformers(str(folder))
    settings = {"temperature": 1.0, "top_p": 0.9, "seed": 0, "max_tokens": 20}
    texts = [dict(model.answers(chats("a"), {**settings, "seed": seed}))[0] for seed in (0, 0, 1)]
    assert texts[0].text == texts[1].text != texts[2].text


def test_the_key_is_the_content_of_the_folder(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert model_sha256(f"transformers:{copy}") == transformers_sha256(str(folder))
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert transformers_sha256(str(copy)) != transformers_sha256(str(folder))
    found = {transformers_sha256(str(copy))}
    (copy / ".cache").mkdir(), (copy / "1_Pooling").mkdir()
    (copy / ".cache" / "state.json").write_text("{}")
    assert transformers_sha256(str(copy)) in found, "what a download leaves is no part of a model"
    for name in ("1_Pooling/config.json", "vocab.txt", "1_Pooling/vocab.txt"):
        (copy / name).write_text("{}")
        found.add(transformers_sha256(str(copy)))
    assert len(found) == 4


def test_wrong_folders_and_names_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no \.safetensors file"):
        model_sha256(f"transformers:{tmp_path}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r'"no/such" is no local folder, and the hub did not give it .*HF_HUB_OFFLINE is set'
    ):
        model_sha256("transformers:no/such")
    with pytest.raises(UserError, match='expected a known name, "openai:<model>" or'):
        model_sha256("ollama:llama")
