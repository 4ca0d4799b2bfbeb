"""A model of transformers: a name on the Hugging Face hub, or a local folder."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqdistill.io import UserError, digest, file_digest, require
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling, Save, fold_system, forget

SUFFIXES = {".json", ".safetensors", ".model", ".jinja", ".txt"}  # what a model is made of


def model_folder(name: str) -> Path:
    """Folder of a model: itself when it is one, else the hub's snapshot (downloaded where it is not there yet)."""
    if Path(name).is_dir():
        return Path(name)
    require("huggingface_hub", "llm")
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(name, ignore_patterns=["*.gguf", "*.bin", "*.pth", "original/*"]))
    except (OSError, ValueError) as error:
        offline = "; HF_HUB_OFFLINE is set, as in every notebook: download it before" * constants.HF_HUB_OFFLINE
        why = f"is no local folder, and the hub did not give it ({type(error).__name__}{offline})"
        raise UserError(f'transformers: "{name}" {why}.') from None


def transformers_sha256(name: str) -> str:
    """Digest of a model's configuration, tokenizer and weights, subfolders included (sentence encoders)."""
    folder = model_folder(name)
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()}
    files = {name.as_posix(): path for name, path in paths.items() if not any(part[0] == "." for part in name.parts)}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{folder.name}: no .safetensors file; expected a folder that `save_pretrained` wrote.")
    return digest({name: file_digest(path) for name, path in files.items()})


class Transformers:
    """A text-generation pipeline, `batch` chats together: bfloat16 on a GPU where there is one, else float32."""

    def __init__(self, name: str, batch: int = 8):
        import torch

        pipeline = require("transformers", "llm").pipeline

        folder, gpu = model_folder(name), torch.cuda.is_available()
        self.name, self.sha256, self.batch = f"transformers:{name}", transformers_sha256(name), batch
        placed = {"device": 0, "dtype": torch.bfloat16} if gpu else {"device": "cpu", "dtype": torch.float32}
        try:
            self.pipeline = pipeline("text-generation", str(folder), **placed)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder.name}: not a causal language model ({str(error).splitlines()[0]}).") from None
        self.tokenizer = self.pipeline.tokenizer
        if self.tokenizer.chat_template is None:
            raise UserError(f"{folder.name}: its tokenizer has no chat template; an instruction-tuned model is needed.")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token

    def answers(self, chats: Sequence[Messages], sampling: Sampling, save: Save = forget) -> Answers:
        """Answer chats batch by batch, chats of like length together; see `LLM`."""
        import torch
        from jinja2 import TemplateError

        settings = {"max_new_tokens": int(sampling["max_tokens"]), "top_p": sampling["top_p"], "top_k": 0}
        settings |= {"do_sample": sampling["temperature"] > 0, "temperature": sampling["temperature"] or None}
        ends = self.pipeline.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        render = partial(self.tokenizer.apply_chat_template, add_generation_prompt=True, return_dict=False)
        try:
            prompts = render(chats)
        except TemplateError:
            chats = [fold_system(chat) for chat in chats]
            prompts = render(chats)
        limit = getattr(self.pipeline.model.config, "max_position_embeddings", None) or float("inf")
        order = sorted(range(len(chats)), key=lambda row: len(prompts[row]))
        while order and len(prompts[order[-1]]) + sampling["max_tokens"] > limit:
            yield order.pop(), Failure("overlong prompt", final=True)
        for start in range(0, len(order), self.batch):
            rows, begun, answers = order[start : start + self.batch], time.perf_counter(), {}
            with torch.random.fork_rng():
                torch.manual_seed(int(sampling["seed"]))
                records = self.pipeline(
                    [chats[row] for row in rows], batch_size=len(rows), return_tensors=True, **settings
                )
            seconds = round(time.perf_counter() - begun, 3)
            for row, (record,) in zip(rows, records, strict=True):
                tokens = record["generated_token_ids"][len(prompts[rows[-1]]) :]  # prompts are padded to the longest
                length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
                text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
                finish = "stop" if length < len(tokens) else "length"
                answers[row] = (
                    Answer(text, len(prompts[row]), length, seconds, finish) if text else Failure("empty answer")
                )
                save(row, answers[row])
            yield from answers.items()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the model's own tokenizer."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
