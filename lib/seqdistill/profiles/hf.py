"""A model of transformers: a name on the Hugging Face hub, or a local folder."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqdistill.io import UserError, digest, file_digest, require
from seqdistill.profiles import chat
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling

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
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix in SUFFIXES}
    files = {name: path for name, path in files.items() if "/." not in f"/{name}"}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{folder.name}: no .safetensors file; expected a folder that `save_pretrained` wrote.")
    return files


def transformers_sha256(name: str) -> str:
    """Digest of a model's files."""
    return digest({name: file_digest(path) for name, path in model_files(model_folder(name)).items()})


class Transformers:
    """A causal language model, asked `batch` chats at a time: bfloat16 on a GPU if there is one, else float32."""

    def __init__(self, name: str, context: int, batch: int):
        import torch

        transformers, folder = require("transformers", "llm"), model_folder(name)
        self.name, self.context, self.batch = f"transformers:{name}", context, batch
        model_files(folder)  # UserError unless the weights are safetensors
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
            self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder.name}: not a causal language model ({str(error).splitlines()[0]}).") from None
        if self.tokenizer.chat_template is None:
            raise UserError(f"{folder.name}: its tokenizer has no chat template; an instruction-tuned model is needed.")
        if (limit := getattr(self.model.config, "max_position_embeddings", None) or context) < context:
            raise UserError(f"{folder.name}: its context is {limit} tokens; `context` is {context}.")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.render = partial(self.tokenizer.apply_chat_template, add_generation_prompt=True, return_dict=True)

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Answers:
        """Answer chats batch by batch, chats of similar length together; see `LLM`."""
        from jinja2 import TemplateError

        try:
            self.render(chats[:1])
        except TemplateError:
            chats = [chat.fold_system(messages) for messages in chats]
        order = sorted(range(len(chats)), key=lambda row: len(chats[row][-1]["content"]))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            answers = self.batch_answers({row: chats[row] for row in rows}, sampling)
            if cut := {row: chats[row] for row in rows if chat.was_cut(answers[row])}:
                again = self.batch_answers(cut, chat.larger(sampling))
                answers |= {row: chat.better(answers[row], answer) for row, answer in again.items()}
            yield from answers.items()

    def batch_answers(self, chats: dict[int, Messages], sampling: Sampling) -> dict[int, Answer | Failure]:
        """Answer chats, by row, as one batch; those whose prompt leaves too little of the context fail."""
        import torch

        if unknown := {*sampling} - {"max_tokens", "top_p", "temperature", "seed"}:
            raise UserError(f"{self.name}: transformers cannot sample with {min(unknown)}; choose another style.")
        most = self.context - int(sampling["max_tokens"])
        lengths = zip(chats, map(len, self.render([*chats.values()])["input_ids"]), strict=True)
        answers = {row: Failure("overlong prompt", final=True) for row, length in lengths if length > most}
        chats = {row: messages for row, messages in chats.items() if row not in answers}
        if not chats:
            return answers
        prompts = self.render([*chats.values()], padding=True, return_tensors="pt").to(self.model.device)
        settings = {"max_new_tokens": int(sampling["max_tokens"]), "top_p": sampling["top_p"], "top_k": 0}
        settings |= {"do_sample": sampling["temperature"] > 0, "temperature": sampling["temperature"] or None}
        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        begun = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(int(sampling["seed"]))
            written = self.model.generate(**prompts, **settings, pad_token_id=self.tokenizer.pad_token_id)
        seconds = round(time.perf_counter() - begun, 3)
        read = prompts["attention_mask"].sum(1).tolist()
        for row, prompt_tokens, tokens in zip(chats, read, written[:, max(read) :].tolist(), strict=True):
            length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            text = self.tokenizer.decode(tokens[:length])  # with special tokens, which may mark reasoning
            finish = "stop" if length < len(tokens) else "length"
            answers[row] = chat.read_answer(text, prompt_tokens, length, seconds, finish)
        return answers

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the model's own tokenizer."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
