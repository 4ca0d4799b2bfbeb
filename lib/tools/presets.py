"""What a preset changes in the notebooks' parameters, checked as a whole before anything runs."""

import ast
from dataclasses import replace
from typing import get_args

import jupytext
import nbformat
import yaml
from seqdistill.config import Distillation, did_you_mean, parse, parse_recommender
from seqdistill.data import splits
from seqdistill.embeddings.reducers import REDUCERS
from seqdistill.embeddings.teachers import NO_LLM, TEACHERS
from seqdistill.io import ROOT, UserError
from seqdistill.profiles.llm import parts_of
from seqdistill.profiles.prompts import sampling_of
from seqdistill.training.sweep import kind_of

TEXT = ROOT / "notebooks" / "text"
PRESETS = ROOT / "notebooks" / "presets"
FORMS = ("distilled", "distilled-student")  # of 04: the paper's, and the one that projects the student


class Once(yaml.SafeLoader):
    """YAML in which no key stands twice; PyYAML would keep the last and drop the others in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Read a mapping.

        Raises:
            MarkedYAMLError: a key stands twice.
        """
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        if twice := [key for at, key in enumerate(keys) if key.value in [earlier.value for earlier in keys[:at]]]:
            line = twice[0].start_mark.line + 1
            raise yaml.MarkedYAMLError(problem=f"line {line} names {twice[0].value!r} a second time")
        return super().construct_mapping(node, deep)


def chapters() -> list[str]:
    """Names of the notebooks, in reading order."""
    return sorted(path.stem for path in TEXT.glob("[0-9][0-9]-*.py"))


def parameters(notebook: nbformat.NotebookNode) -> dict:
    """Names and values in the cell tagged "parameters": the default preset's."""
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}


def preset_values(preset: str, chapter: str, defaults: dict) -> dict:
    """What a preset changes in one chapter.

    Raises:
        UserError: there is no such preset, or it names a chapter or parameter that does not exist, or a value has
            another type than the default (a whole number where the default is None).
    """
    path = PRESETS / f"{preset}.yaml"
    known = sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if preset not in known:
        raise UserError(f'"{preset}" is not a preset{did_you_mean(preset, known)}; there are {", ".join(known)}.')
    try:
        sections = Once(path.read_text()).get_single_data() or {}
    except yaml.YAMLError as error:
        raise UserError(f"preset {path.name}: not valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(sections, dict) or not all(isinstance(values, dict) for values in sections.values()):
        raise UserError(f"preset {path.name}: expected sections, each with parameters and their values.")
    for section in sections:
        if section not in chapters():
            raise UserError(f'preset {path.name}: "{section}" is not a notebook{did_you_mean(section, chapters())}.')
        if "preset" in sections[section]:
            raise UserError(f'preset {path.name}: "preset" of {section} follows from the file\'s name; leave it out.')
    values = {"preset": preset, **sections.get(chapter, {})}
    for name, value in values.items():
        if name not in defaults:
            raise UserError(
                f'preset {path.name}: "{name}" is not a parameter of {chapter}{did_you_mean(name, list(defaults))}.'
            )
        default = defaults[name]
        expected = int if default is None else type(default)
        same = isinstance(value, expected) and isinstance(value, bool) == isinstance(default, bool)
        widened = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        if not (same or widened or (default is None and value is None)):
            like = f"expected {expected.__name__}, like {default!r}"
            raise UserError(f'preset {path.name}: "{name}" of {chapter} is {value!r}; {like}.')
    return {name: value for name, value in values.items() if value != defaults[name]}


def values_of(preset: str, chapter: str) -> dict:
    """Parameters of a chapter in a preset.

    Raises:
        UserError: as `preset_values`.
    """
    defaults = parameters(jupytext.read(TEXT / f"{chapter}.py"))
    return defaults | preset_values(preset, chapter, defaults)


def check_preset(preset: str) -> None:
    """Check names and settings of all chapters before the first one runs, and an LLM is asked.

    Raises:
        UserError: as `preset_values`, or a name or setting of a later chapter does not exist.
    """
    from seqdistill.idgenrec.model import IDGenRec  # imports T5, which takes seconds

    values = {chapter[:2]: values_of(preset, chapter) for chapter in chapters()}
    where = f"preset {preset}.yaml"
    data, said, texts, run = (values[number] for number in ("01", "02", "03", "04"))
    protocol = {name: data[name] for name in ("last_k", "quantile", "targets", "valid_share", "seed")}
    if data["protocol"] not in (names := get_args(splits.Protocol.__annotations__["name"])):
        raise UserError(f'{where}: "protocol" is {data["protocol"]!r}; choose one of {", ".join(names)}.')
    parse(splits.Protocol, {"name": data["protocol"], **protocol}, f"{where}, protocol")
    parts_of(said["llm"])
    sampling_of(said["style"])
    for name, choice in (("reducer", REDUCERS), ("teacher", TEACHERS)):
        if texts[name] not in choice:
            raise UserError(f'{where}: "{name}" is {texts[name]!r}; choose one of {", ".join(choice)}.')
    if bad := [arm for arm in [*texts["everyone"], *run["arms"]] if arm not in NO_LLM]:
        raise UserError(f"{where}: {bad[0]!r} is not a teacher without an LLM; choose among {', '.join(NO_LLM)}.")
    trained, seeds = [name for name in ("SASRec", "BERT4Rec") if run[name.lower()]], run["seeds"]
    forms = [f"{whose}{form}" for whose in ("", *(f"{name} " for name in trained)) for form in FORMS]
    if bad := [form for form in run["forms"] if form not in forms]:
        raise UserError(f'{where}: "forms" of 04 names {bad[0]!r}; choose among {", ".join(forms)}.')
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise UserError(f'{where}: "seeds" of 04 is {seeds}; whole numbers from 0 are expected, none twice.')
    for number, name in (("05", "student"), ("06", "lead"), ("07", "model"), ("09", "model")):
        if values[number][name] and values[number][name] not in trained:
            raise UserError(
                f'{where}: "{name}" of {number} is {values[number][name]!r}; 04 trains {", ".join(trained) or "none"}.'
            )
    parse(IDGenRec, values["07"]["idgenrec"], f"{where}, 07-efficiency")
    for number in ("04", "05", "06"):
        kind_of(values[number]["cluster"])
    for name in ("SASRec", "BERT4Rec"):
        settings, taught = run[name.lower()], run[f"{name.lower()}_teacher"]
        if settings:
            found = parse_recommender(settings, name, f"{where}, 04-distillation")
            for setting in (taught, {**taught, **run["own"]}):
                replace(found, distillation=parse(Distillation, setting, f"{where}, teacher of {name}"))
