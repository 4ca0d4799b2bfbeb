"""What a preset changes in the notebooks' parameters, checked as a whole before anything runs.

What only the check needs is imported there: every chapter's execution starts with this module.
"""

import ast
import json

import jupytext
import nbformat
import yaml
from seqdistill.config import did_you_mean
from seqdistill.io import ROOT, UserError, outputs_dir

TEXT = ROOT / "notebooks" / "text"
PRESETS = ROOT / "notebooks" / "presets"
STUDENTS = ("SASRec", "BERT4Rec")
FORMS = ("distilled", "distilled-student")  # of 04: the paper's, and the one that projects the student


class UniqueKeys(yaml.SafeLoader):
    """YAML in which no key stands twice; PyYAML would keep the last and drop the others in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Read a mapping; a key that stands twice is a MarkedYAMLError."""
        names = set()
        for key, _ in node.value:
            if key.value in names:
                line = key.start_mark.line + 1
                raise yaml.MarkedYAMLError(problem=f"line {line} names {key.value!r} a second time")
            names.add(key.value)
        return super().construct_mapping(node, deep)


def chapters() -> list[str]:
    """Names of the notebooks, in reading order."""
    return sorted(path.stem for path in TEXT.glob("[0-9][0-9]-*.py"))


def parameters(notebook: nbformat.NotebookNode) -> dict:
    """Names and values in the cell tagged "parameters": the default preset's."""
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}


def read_preset(preset: str) -> dict[str, dict]:
    """Sections of a preset, one a chapter."""
    path, names = PRESETS / f"{preset}.yaml", sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if preset not in names:
        raise UserError(f'"{preset}" is not a preset{did_you_mean(preset, names)}; there are {", ".join(names)}.')
    try:
        sections = UniqueKeys(path.read_text()).get_single_data() or {}
    except yaml.YAMLError as error:
        raise UserError(f"preset {path.name}: not valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(sections, dict) or not all(isinstance(values, dict) for values in sections.values()):
        raise UserError(f"preset {path.name}: expected sections, each with parameters and their values.")
    for section, values in sections.items():
        if section not in chapters():
            raise UserError(f'preset {path.name}: "{section}" is not a notebook{did_you_mean(section, chapters())}.')
        if "preset" in values:
            raise UserError(f'preset {path.name}: "preset" of {section} follows from the file\'s name; leave it out.')
    return sections


def preset_values(preset: str, chapter: str, defaults: dict) -> dict:
    """What a preset changes in one chapter; a value has the type of its default, a whole number where that is None."""
    values, where = {"preset": preset, **read_preset(preset).get(chapter, {})}, f"preset {preset}.yaml"
    for name, value in values.items():
        if name not in defaults:
            hint = did_you_mean(name, list(defaults))
            raise UserError(f'{where}: "{name}" is not a parameter of {chapter}{hint}.')
        default = defaults[name]
        kind = int if default is None else type(default)
        # type(True) is no int here, and a whole number may stand for a float
        if type(value) not in ({kind, int} if kind is float else {kind}) and (default is not None or value is not None):
            like = f"expected {kind.__name__}, like {default!r}"
            raise UserError(f'{where}: "{name}" of {chapter} is {value!r}; {like}.')
    return {name: value for name, value in values.items() if value != defaults[name]}


def write_sections(preset: str) -> None:
    """Write what a preset says of each chapter, for `make`: a file is touched only where that has changed."""
    folder = outputs_dir(preset) / "artifacts"
    for chapter in chapters():
        path, text = folder / f"{chapter}.section", json.dumps(read_preset(preset).get(chapter, {}), sort_keys=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    (folder / "sections").touch()


def values_of(preset: str, chapter: str) -> dict:
    """Parameters of a chapter in a preset."""
    defaults = parameters(jupytext.read(TEXT / f"{chapter}.py"))
    return defaults | preset_values(preset, chapter, defaults)


def check_preset(preset: str) -> None:
    """Check names and settings of all chapters before the first one runs, and an LLM is asked."""
    from dataclasses import replace

    from seqbook.idgenrec.model import IDGenRec
    from seqdistill.config import Distillation, parse, parse_recommender
    from seqdistill.data import splits
    from seqdistill.data.store import home_of
    from seqdistill.embeddings.reducers import REDUCERS
    from seqdistill.embeddings.teachers import NO_LLM, TEACHERS
    from seqdistill.evaluation.baselines import GRIDS
    from seqdistill.profiles.llm import FACTS, parts_of
    from seqdistill.profiles.prompts import sampling_of
    from seqdistill.training.sweep import kind_of

    values, where = {chapter[:2]: values_of(preset, chapter) for chapter in chapters()}, f"preset {preset}.yaml"
    data, profiles, texts, run = (values[number] for number in ("01", "02", "03", "04"))
    said, trained, seeds = read_preset(preset).get("04-distillation", {}), run["students"], run["seeds"]
    protocol = {name: data[name] for name in ("last_k", "quantile", "targets", "valid_share", "seed")}
    parse(splits.Protocol, {"name": data["protocol"], **protocol}, f"{where}, protocol")
    home_of(data["dataset"])
    least = 1 + max(20, texts["neighbors"], texts["components"] + 1)  # that 03 needs; 20: it compares ten neighbours
    if profiles["sample"] and profiles["sample"] < least:
        what = f'"sample" is {profiles["sample"]}; 03-embeddings needs {least} users or more'
        raise UserError(f"{where}: {what} for these components and neighbors.")
    facts = parts_of(profiles["llm"])[0] == FACTS
    sampling_of(profiles["style"])
    if not trained:
        raise UserError(f'{where}: "students" of 04 is empty; name one or more of {", ".join(STUDENTS)}.')
    named = trained if "forms" in said else STUDENTS  # the default's forms name both
    forms = [*FORMS, *(f"{name} {form}" for name in named for form in FORMS)]
    choices = [
        *[('"style" of the llm "facts"', profiles["style"], ["grounded"])] * facts,
        ('"reducer"', texts["reducer"], REDUCERS),
        ('"teacher"', texts["teacher"], TEACHERS),
        *(("a teacher without an LLM", source, NO_LLM) for source in [*texts["everyone"], *run["sources"]]),
        *(('one of "students" of 04', name, STUDENTS) for name in trained),
        *(('one of "forms" of 04', form, forms) for form in run["forms"]),
        *(('one of "rivals" of 04', rival, GRIDS) for rival in run["rivals"]),
        *(('one of "sources" of 05', source, NO_LLM) for source in values["05"]["sources"]),
        ('"student" of 05', values["05"]["student"], trained),
        ('"lead" of 06', values["06"]["lead"], trained),
        *(('one of "also" of 06', name, trained) for name in values["06"]["also"]),
        *((f'"model" of {number}', values[number]["model"], trained) for number in ("07", "09")),
    ]
    for name, value, choice in choices:
        if value not in choice:
            raise UserError(f"{where}: {name} is {value!r}; choose one of {', '.join(choice)}.")
    for name in set(STUDENTS) - {*trained}:
        if idle := {name.lower(), f"{name.lower()}_teacher"} & {*said}:
            raise UserError(f'{where}: 04 sets {min(idle)!r}, but "students" does not name {name}.')
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise UserError(f'{where}: "seeds" of 04 is {seeds}; whole numbers from 0 are expected, none twice.')
    budgets = values["05"]["budgets"]
    if not budgets or not all(isinstance(share, int | float) and share > 0 for share in budgets):
        raise UserError(f'{where}: "budgets" of 05 is {budgets}; shares of the epochs above 0 are expected.')
    for loss in values["05"]["losses"]:
        parse(Distillation, {"loss": loss}, f'{where}, "losses" of 05')
    parse(IDGenRec, values["07"]["idgenrec"], f"{where}, 07-efficiency")
    for number in ("04", "05", "06"):
        kind_of(values[number]["cluster"])
    for name in trained:
        config = parse_recommender(run[name.lower()], name, f"{where}, 04-distillation")
        teacher = run[f"{name.lower()}_teacher"]
        for settings in (teacher, {**teacher, **run["own"]}):
            replace(config, distillation=parse(Distillation, settings, f"{where}, teacher of {name}"))
