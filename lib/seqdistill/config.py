"""Settings of a training run: frozen dataclasses, strictly parsed."""

import difflib
from dataclasses import asdict, replace
from typing import Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from seqdistill.io import UserError

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Shape of the recommender: SASRec where attention is causal, else BERT4Rec.

    dim: d. length: maximum number of positions read. temperature: scores are cosines divided by it, or inner products
    if it is 0. item_dropout: probability that an item of the history is zeroed in a training step; its position stays.
    output_layer: BERT4Rec's (linear, GELU, norm), and a bias for each item (Sun et al., 2019, section 3.5). recurrent:
    GRU4Rec, `blocks` recurrent layers in place of attention.
    """

    causal: bool = True
    dim: int = Field(64, gt=0)
    blocks: int = Field(2, gt=0)
    heads: int = Field(2, gt=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    item_dropout: float = Field(0.0, ge=0, lt=1)
    length: int = Field(50, gt=2)
    temperature: float = Field(0.0, ge=0)
    output_layer: bool = False
    recurrent: bool = False

    def __post_init__(self) -> None:
        if self.recurrent and not self.causal:
            raise UserError("ModelConfig: a recurrent student is causal.")
        if self.dim % self.heads:
            raise UserError(f'ModelConfig: "heads" = {self.heads} does not divide "dim" = {self.dim}.')


@dataclass(frozen=True, config=STRICT)
class Distillation:
    """How the teacher enters phase 1 (Severin et al., 2026, section 3).

    beta: dynamic scaling of the reconstruction loss.
    projection: where T sits. `teacher` is the paper's trainable T on the teacher vector, `teacher_frozen` a fixed
    orthonormal T, `student` a trainable projection of H_k onto the fixed teacher vector.
    loss: how H_k and the teacher are compared. temperature: of `infonce` and `multi_infonce`.
    block: k, counted from 1, or "last" or "final_norm". aggregation, gamma: how states after block k are pooled to H_k.
    phase1_fraction, patience: phase 1 lasts this fraction of the epochs, or ends after `patience` epochs without a
    better validation NDCG@10 (0: never). anneal: alpha falls linearly, epoch by epoch, to reach 0 when that fraction is
    over. shuffled: every user gets another user's teacher (a control). probe: log after every epoch the R² of a linear
    probe that predicts the teacher from H_k.
    """

    alpha: float = Field(0.4, ge=0, le=1)
    beta: bool = True
    projection: Literal["teacher", "teacher_frozen", "student"] = "teacher"
    loss: Literal["mse", "rmse", "cosine", "infonce", "multi_infonce"] = "mse"
    temperature: float = Field(0.1, gt=0)
    block: Literal["last", "final_norm"] | int = "last"
    aggregation: Literal["mean", "exponential", "attention", "last"] = "mean"
    gamma: float = Field(0.1, gt=0)
    phase1_fraction: float = Field(0.5, gt=0, le=1)
    patience: int = Field(0, ge=0)
    anneal: bool = False
    shuffled: bool = False
    probe: bool = False


@dataclass(frozen=True, config=STRICT)
class ItemText:
    """Item vectors that also read the item's text, see `models.item_text`; not part of the paper's method.

    id_dropout: probability that an item's own vector is left out in a training step, so that only its text is used.
    """

    id_dropout: float = Field(0.2, ge=0, lt=1)


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """One training run: a model, its loss and optimisation, a distillation or None, item texts or None.

    epochs, patience: a run ends after `epochs`, or after `patience` epochs of phase 2 without a better validation
    NDCG@10 (0: never). warmup: epochs of linearly rising learning rate. validate_on: whether seen items are included
    in the validation ranking that chooses the epoch. windows: "all" cuts long histories so that every event is used,
    "last" keeps the last `length` events as the papers do. mask_prob, mask_last_prob: BERT4Rec's probability that an
    item is masked, and that only the last item of a row is. negatives: shared by a batch, for the sampled softmax.
    """

    model: ModelConfig = ModelConfig()
    distillation: Distillation | None = None
    item_text: ItemText | None = None
    epochs: int = Field(20, gt=0)
    patience: int = Field(0, ge=0)
    batch: int = Field(64, gt=0)
    lr: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    loss: Literal["full", "sampled"] = "full"
    negatives: int = Field(256, gt=0)
    validate_on: Literal["included", "excluded"] = "included"
    windows: Literal["all", "last"] = "all"
    mask_prob: float = Field(0.2, gt=0, lt=1)
    mask_last_prob: float = Field(0.1, ge=0, le=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    seed: int = Field(0, ge=0)

    def __post_init__(self) -> None:
        if not self.distillation:
            return
        if self.model.recurrent:
            raise UserError("TrainConfig: a recurrent student has no blocks, after which it could be taught.")
        block, fraction = self.distillation.block, self.distillation.phase1_fraction
        if isinstance(block, int) and not 1 <= block <= self.model.blocks:
            raise UserError(f"block = {block}: the model has {self.model.blocks} blocks, counted from 1.")
        if round(self.epochs * fraction) == 0:
            raise UserError(f"phase1_fraction = {fraction:g} of {self.epochs} epochs rounds to 0 epochs.")
        if block == "last":
            object.__setattr__(self, "distillation", replace(self.distillation, block=self.model.blocks))


def did_you_mean(name: str, known: list[str]) -> str:
    """' (did you mean "..."?)' when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def parse(kind: type, values: dict, where: str):
    """Build a config dataclass from plain values; UserError names the first value that is unknown or out of range."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first, schema = error.errors()[0], TypeAdapter(kind).json_schema()
        name = ".".join(part for part in map(str, first["loc"]) if part.isidentifier())
        if first["type"] == "unexpected_keyword_argument":
            known = [field for part in (schema, *schema.get("$defs", {}).values()) for field in part["properties"]]
            hint = did_you_mean(name.split(".")[-1], known)
            raise UserError(f'{where}: "{name}" is not a setting{hint}.') from None
        raise UserError(f'{where}: "{name}" = {first["input"]!r}: {first["msg"].lower()}.') from None


def parse_recommender(values: dict, name: str, where: str) -> TrainConfig:
    """Build the run of "SASRec", "BERT4Rec" or "GRU4Rec" from plain values; the name decides what the model is."""
    config = parse(TrainConfig, values, f"{where}, {name}")
    model = replace(config.model, causal=name != "BERT4Rec", recurrent=name == "GRU4Rec")
    return replace(config, model=model)


def title_of(run: TrainConfig) -> str:
    """Student, teacher and seed of a run, as progress lines name it."""
    model, teacher = run.model, run.distillation
    name = "GRU4Rec" if model.recurrent else "SASRec" if model.causal else "BERT4Rec"
    taught = (" with a shuffled teacher" if teacher.shuffled else " with a teacher") if teacher else ""
    return f"{name}{taught}, seed {run.seed}"


def gru4rec(run: TrainConfig) -> TrainConfig:
    """GRU4Rec with the settings of another student's run: one recurrent layer for its blocks, no teacher."""
    return replace(run, model=replace(run.model, causal=True, recurrent=True, blocks=1), distillation=None)


to_dict = asdict  # a config as JSON-able values


def settings(config: object) -> dict:
    """Return the values that differ from the defaults: they name a run, so a new option does not rename old runs."""
    return TypeAdapter(type(config)).dump_python(config, exclude_defaults=True)
