"""What a run is: frozen, strictly parsed, and named by its digest."""

import difflib
from dataclasses import asdict, fields, replace
from typing import Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from seqdistill.io import BookError

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Student:
    """Shape of the recommender; `dim` is d, `length` the most positions it reads; causal is SASRec, else BERT4Rec.

    temperature: scores are cosines divided by it; 0 leaves them inner products. item_dropout: chance of an item of the
    history to be left out of a training step, its place staying.
    """

    causal: bool = True
    dim: int = Field(64, gt=0)
    blocks: int = Field(2, gt=0)
    heads: int = Field(2, gt=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    item_dropout: float = Field(0.0, ge=0, lt=1)
    length: int = Field(50, gt=2)
    temperature: float = Field(0.0, ge=0)

    def __post_init__(self) -> None:
        """Check what no single field can tell."""
        if self.dim % self.heads:
            raise BookError(f'Student: "heads" = {self.heads} does not divide "dim" = {self.dim}.')


@dataclass(frozen=True, config=STRICT)
class Distillation:
    """How the teacher enters phase 1 (Severin et al., 2026, section 3).

    side: where the projection T sits. `target` is the paper's trainable T on the teacher, `frozen` a fixed
    orthonormal T, `student` a trainable projection of the student onto the fixed teacher.
    loss, temperature: how the two are compared; the temperature is InfoNCE's.
    block: k, counted from 1; 0 is the last, -1 the final norm. aggregation, gamma: of the states after block k into
    H_k; gamma is the rate of `exponential`. several: what becomes of a user's several profiles.
    share, patience: phase 1 lasts this share of the epochs, or less: until so many epochs without a better validation
    NDCG@10 (0: never). shuffled: give every user another user's teacher vector (a control). probe: log after every
    epoch how well a linear probe reads the teacher off the student.
    """

    alpha: float = Field(0.4, ge=0, le=1)
    beta: bool = True
    side: Literal["target", "frozen", "student"] = "target"
    loss: Literal["mse", "rmse", "cosine", "infonce"] = "mse"
    temperature: float = Field(0.1, gt=0)
    block: int = Field(0, ge=-1)
    aggregation: Literal["mean", "exponential", "attention", "last"] = "mean"
    gamma: float = Field(0.1, gt=0)
    several: Literal["mean", "attention"] = "mean"
    share: float = Field(0.5, gt=0, le=1)
    patience: int = Field(0, ge=0)
    shuffled: bool = False
    probe: bool = False


@dataclass(frozen=True, config=STRICT)
class ItemText:
    """What an item's text adds to its vector: see `item_text.TextEncoder`; not part of the paper's method.

    id_dropout: chance of an item's own vector to be left out of a training step, so that its text alone must do.
    """

    id_dropout: float = Field(0.2, ge=0, lt=1)


@dataclass(frozen=True, config=STRICT)
class Run:
    """One training run: a student, its loss and optimisation, a distillation or None, item texts or None.

    epochs: how many, or at most how many with `patience`, the epochs without a better validation NDCG@10 after which
    a run ends (0: never; phase 1 does not count, so that a taught run may train longer than a plain one).
    warmup: epochs of linearly rising learning rate.
    choose: whether items of the history count in the validation NDCG@10 that chooses the epoch.
    windows: "all" cuts long histories so that every event trains, "last" keeps the last `length` as the papers do.
    masked, last_share: BERT4Rec's chance of an item to be hidden, and share of rows that hide the last item alone.
    negatives, calibration: items drawn per batch for every loss but "full"; gBCE's t.
    """

    student: Student = Student()
    distillation: Distillation | None = None
    item_text: ItemText | None = None
    epochs: int = Field(20, gt=0)
    patience: int = Field(0, ge=0)
    batch: int = Field(64, gt=0)
    lr: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    loss: Literal["full", "sampled", "bce", "gbce"] = "full"
    negatives: int = Field(256, gt=0)
    calibration: float = Field(0.75, ge=0, le=1)
    choose: Literal["kept", "filtered"] = "kept"
    windows: Literal["all", "last"] = "all"
    masked: float = Field(0.2, gt=0, lt=1)
    last_share: float = Field(0.1, ge=0, le=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    seed: int = Field(0, ge=0)

    def __post_init__(self) -> None:
        """Refuse a phase 1 that would be empty, and a block that the student does not have; name the last by number."""
        share, blocks = self.distillation and self.distillation.share, self.student.blocks
        if self.distillation and self.distillation.block > blocks:
            raise BookError(f"block = {self.distillation.block}: the student has {blocks} blocks.")
        if self.distillation and self.distillation.block == 0:
            object.__setattr__(self, "distillation", replace(self.distillation, block=blocks))
        if share and round(self.epochs * share) == 0:
            raise BookError(f"share = {share:g} of {self.epochs} epochs rounds to 0: the teacher would never be heard.")


def suggestion(name: str, known: list[str]) -> str:
    """' (did you mean "..."?)' when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def named(part: type) -> str:
    """Name of the field of `Run` that holds a part."""
    return {ItemText: "item_text"}.get(part, part.__name__.lower())


def parse(kind: type, values: dict, where: str):
    """Build a config dataclass from plain values.

    Raises:
        BookError: a key is unknown or a value is of the wrong type or out of range; the message names it.
    """
    try:
        return TypeAdapter(kind).validate_python(values, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        kind = next((part for part in (Student, Distillation, ItemText) if named(part) in first["loc"][:-1]), kind)
        if first["type"] == "unexpected_keyword_argument":
            hint = suggestion(name, [field.name for field in fields(kind)])
            raise BookError(f'{where}: "{name}" is not a setting of {kind.__name__}{hint}.') from None
        raise BookError(f'{where}: "{name}" = {first["input"]!r}: {first["msg"].lower()}.') from None


def recommender(values: dict, name: str, where: str) -> Run:
    """Build the run of "SASRec" or "BERT4Rec" from plain values; the name decides what `causal` is.

    Raises:
        BookError: as `parse`.
    """
    given = values.get("student", {})
    if not isinstance(given, dict):
        raise BookError(f'{where}, {name}: "student" = {given!r}: settings are expected, like {{dim: 64}}.')
    shape = {**given, "causal": name == "SASRec"}
    return parse(Run, {**values, "student": shape}, f"{where}, {name}")


def plain(config: object) -> dict:
    """Return a config as JSON-able values."""
    return asdict(config)
