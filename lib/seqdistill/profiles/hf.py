"""An LLM run by transformers, in batches: a name on the Hugging Face hub, or a local folder."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqdistill.io import UserError, digest, file_digest
from seqdistill.profiles.chat import Answer, Failure, Messages, Sampling, folded

READ = {".json", ".safetensors", ".model", ".jinja", ".txt"}  # what a model is made of


def model_folder(name: str) -> Path:
    """Folder of a model: itself when it is one, else the hub's snapshot (downloaded where it is not there yet).

    Raises:
        UserError: there is no such folder, and the hub does not give it.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(name, ignore_patterns=["*.gguf", "*.bin", "*.pth", "original/*"]))
    except (OSError, ValueError) as error:
        offline = "; HF_HUB_OFFLINE is set, as in every notebook: download it before" * constants.HF_HUB_OFFLINE
        raise UserError(
            f'transformers: "{name}" is no local folder, and the hub did not give it ({type(error).__name__}{offline}).'
        ) from None


def transformers_sha256(name: str) -> str:
    """Digest of a model's configuration, tokenizer and weights, in folders of a folder too (sentence encoders).

    Raises:
        UserError: the folder holds no model.
    """
    folder = model_folder(name)
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix in READ and path.is_file()}
    files = {name.as_posix(): path for name, path in found.items() if not any(part[0] == "." for part in name.parts)}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{folder.name}: no .safetensors file; expected a folder that `save_pretrained` wrote.")
    return digest({name: file_digest(path) for name, path in files.items()})


class Transformers:
    """A causal language model of transformers, on the GPU in bfloat16 where there is one, else on the CPU in float32.

    Args:
        name: a folder, or a name on the hub (google/gemma-2-9b-it).
        batch: chats generated together, padded on the left.

    Raises:
        UserError: the folder holds no model with a chat template.
    """

    def __init__(self, name: str, batch: int = 8):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = model_folder(name)
        self.name, self.sha256, self.batch = f"transformers:{name}", transformers_sha256(name), batch
        gpu = torch.cuda.is_available()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            dtype = torch.bfloat16 if gpu else torch.float32
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder.name}: not a causal language model ({str(error).splitlines()[0]}).") from None
        if self.tokenizer.chat_template is None:
            raise UserError(f"{folder.name}: its tokenizer has no chat template; an instruction-tuned model is needed.")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.to("cuda" if gpu else "cpu")

    def rendered(self, messages: Messages) -> str:
        """Write a chat as the model reads it; a system message goes before the user's where the template has none."""
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError:
            return self.tokenizer.apply_chat_template(folded(messages), tokenize=False, add_generation_prompt=True)

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Yield (index of the chat, answer or failure), batch by batch, chats of like length together."""
        texts = [self.rendered(chat) for chat in chats]
        lengths = self.count_tokens(texts)
        limit = getattr(self.model.config, "max_position_embeddings", None) or float("inf")
        order = sorted(range(len(texts)), key=lambda index: lengths[index])
        while order and lengths[order[-1]] + sampling["max_tokens"] > limit:
            yield order.pop(), Failure("overlong prompt", final=True)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            yield from zip(rows, self.generated([texts[row] for row in rows], sampling), strict=True)

    def generated(self, texts: list[str], sampling: Sampling) -> list[Answer | Failure]:
        """Generate one batch."""
        import torch

        begun = time.perf_counter()
        read = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.model.device)
        width = read["input_ids"].shape[1]
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(int(sampling["seed"]))
            written = self.model.generate(
                **read,
                max_new_tokens=int(sampling["max_tokens"]),
                do_sample=sampling["temperature"] > 0,
                temperature=sampling["temperature"] or None,
                top_p=sampling["top_p"],
                top_k=0,
                pad_token_id=self.tokenizer.pad_token_id,
            )[:, width:]
        seconds = round(time.perf_counter() - begun, 3)
        return [self.answer(row, mask, seconds) for row, mask in zip(written, read["attention_mask"], strict=True)]

    def answer(self, written: "torch.Tensor", mask: "torch.Tensor", seconds: float) -> Answer | Failure:  # noqa: F821
        """Read one generated row, [tokens]; it ends at the first end-of-text token or was cut off."""
        ends = self.model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        tokens = written.tolist()
        length = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
        text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
        if not text:
            return Failure("empty answer")
        return Answer(text, int(mask.sum()), length, seconds, "stop" if length < len(tokens) else "length")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the model's own tokenizer."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
