"""A model of transformers: a name on the Hugging Face hub, or a local folder."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqdistill.io import UserError, digest, file_digest, require
from seqdistill.profiles import chat
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling, Save, forget

SUFFIXES = {".json", ".safetensors", ".model", ".jinja", ".txt"}  # of a model's files


def model_folder(name: str) -> Path:
    """Folder of a model: a local one, or the hub's snapshot, downloaded if need be; `name@revision` pins a commit."""
    if Path(name).is_dir():
        return Path(name)
    require("huggingface_hub", "llm")
    from huggingface_hub import constants, snapshot_download

    hub_name, _, revision = name.partition("@")
    unread = ["*.gguf", "*.bin", "*.pth", "original/*"]
    try:
        return Path(snapshot_download(hub_name, revision=revision or None, ignore_patterns=unread))
    except (OSError, ValueError) as error:
        offline = "; HF_HUB_OFFLINE is set, as in every notebook: download it before" * constants.HF_HUB_OFFLINE
        why = f"is no local folder, and the hub did not give it ({type(error).__name__}{offline})"
        raise UserError(f'transformers: "{name}" {why}.') from None


def model_files(folder: Path) -> dict[str, Path]:
    """Configuration, tokenizer and weights of a model by name, subfolders included; UserError without safetensors."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()}
    files = {name.as_posix(): path for name, path in paths.items() if not any(part[0] == "." for part in name.parts)}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{folder.name}: no .safetensors file; expected a folder that `save_pretrained` wrote.")
    return files


def transformers_sha256(name: str) -> str:
    """Digest of a model's files."""
    return digest({name: file_digest(path) for name, path in model_files(model_folder(name)).items()})


class Transformers:
    """A text-generation pipeline, `batch` chats at a time: bfloat16 on a GPU if there is one, else float32."""

    def __init__(self, name: str, batch: int):
        import torch

        pipeline = require("transformers", "llm").pipeline

        folder, gpu = model_folder(name), torch.cuda.is_available()
        self.name, self.batch = f"transformers:{name}", batch
        model_files(folder)  # UserError unless the weights are safetensors
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
        """Answer chats batch by batch, chats of similar length together; see `LLM`."""
        from jinja2 import TemplateError

        render = partial(self.tokenizer.apply_chat_template, add_generation_prompt=True, return_dict=False)
        try:
            prompts = render(chats)
        except TemplateError:
            chats = [chat.fold_system(messages) for messages in chats]
            prompts = render(chats)
        limit, lengths = getattr(self.pipeline.model.config, "max_position_embeddings", None), [*map(len, prompts)]
        room = [(limit or float("inf")) - length for length in lengths]
        fitting = [row for row in range(len(chats)) if room[row] >= sampling["max_tokens"]]
        order, more = sorted(fitting, key=lengths.__getitem__), chat.larger(sampling)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            answers = self.batch_answers({row: chats[row] for row in rows}, lengths, sampling)
            cut = {row: chats[row] for row in rows if chat.was_cut(answers[row]) and room[row] >= more["max_tokens"]}
            again = self.batch_answers(cut, lengths, more) if cut else {}
            answers |= {row: chat.better(answers[row], answer) for row, answer in again.items()}
            for row, answer in answers.items():
                save(row, answer)
            yield from answers.items()
        yield from ((row, Failure("overlong prompt", final=True)) for row in sorted({*range(len(chats))} - {*order}))

    def batch_answers(
        self, chats: dict[int, Messages], lengths: Sequence[int], sampling: Sampling
    ) -> dict[int, Answer | Failure]:
        """Answer chats (by row, with the tokens of each row's prompt) as one batch, the longest prompt last."""
        import torch

        if unknown := {*sampling} - {"max_tokens", "top_p", "temperature", "seed"}:
            raise UserError(f"{self.name}: transformers cannot sample with {min(unknown)}; choose another style.")
        settings = {"max_new_tokens": int(sampling["max_tokens"]), "top_p": sampling["top_p"], "top_k": 0}
        settings |= {"do_sample": sampling["temperature"] > 0, "temperature": sampling["temperature"] or None}
        ends = self.pipeline.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        answers, longest, begun = {}, lengths[[*chats][-1]], time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(int(sampling["seed"]))
            records = self.pipeline([*chats.values()], batch_size=len(chats), return_tensors=True, **settings)
        seconds = round(time.perf_counter() - begun, 3)
        for row, (record,) in zip(chats, records, strict=True):
            tokens = record["generated_token_ids"][longest:]  # prompts are padded to the longest
            length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            finish = "stop" if length < len(tokens) else "length"
            text = self.tokenizer.decode(tokens[:length])  # with special tokens, which may mark reasoning
            answers[row] = chat.read_answer(text, lengths[row], length, seconds, finish)
        return answers

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the model's own tokenizer."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
