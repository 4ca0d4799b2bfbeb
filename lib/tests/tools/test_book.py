import errno

import book
import nbformat
import presets
import pytest
from seqdistill import io as artifacts
from seqdistill.io import UserError

TEXT = """# %% tags=["parameters"]
preset = "default"
alpha = 0.4
epochs = 3

# %%
from seqdistill.io import UserError
if epochs == 13:
    raise UserError("thirteen epochs are too many.")
if epochs == 0:
    1 / 0
print(preset, alpha * epochs)
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    text, named = tmp_path / "text", tmp_path / "presets"
    text.mkdir(), named.mkdir()
    (text / "04-distillation.py").write_text(TEXT)
    (named / "default.yaml").write_text("")
    monkeypatch.setattr(presets, "TEXT", text)
    monkeypatch.setattr(presets, "PRESETS", named)
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


def preset(house, text, name="mine"):
    (house / "presets" / f"{name}.yaml").write_text(text)
    return name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("04-distillation: {aplha: 0.2}", '"aplha" is not a parameter of 04-distillation (did you mean "alpha"?)'),
        ("04-distilation: {alpha: 0.2}", '"04-distilation" is not a notebook (did you mean "04-distillation"?)'),
        ("04-distillation: {epochs: many}", "\"epochs\" of 04-distillation is 'many'; expected int"),
        ("04-distillation: {epochs: true}", "expected int"),
        ("04-distillation: {alpha: null}", "expected float"),
        ("04-distillation: {preset: default}", "follows from the file's name"),
        ("04-distillation: 3", "expected sections"),
        (
            "04-distillation: {alpha: 0.2}\n04-distillation: {alpha: 0.3}",
            "line 2 names '04-distillation' a second time",
        ),
        ("04-distillation: {alpha: 0.2, alpha: 0.2}", "line 1 names 'alpha' a second time"),
        ("{", "not valid YAML"),
    ],
)
def test_a_wrong_preset_stops_before_anything_runs(house, text, message):
    with pytest.raises(UserError) as caught:
        book.execute("04-distillation", preset(house, text))
    assert message in str(caught.value) and str(caught.value).startswith("preset mine.yaml: ")
    assert not (house / "outputs").exists()


def test_an_unknown_preset_is_named(house):
    with pytest.raises(UserError, match='"defualt" is not a preset \\(did you mean "default"\\?\\)'):
        book.execute("04-distillation", "defualt")


def test_parameters_reach_the_notebook_and_equal_runs_are_equal_bytes(house):
    name = preset(house, "04-distillation: {alpha: 1, epochs: 5}")
    book.execute("04-distillation", name)
    path = house / "outputs" / "mine" / "04-distillation.ipynb"
    first, page = path.read_bytes(), path.with_suffix(".html").read_text()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].outputs[0].text == "mine 5\n" and "mine 5" in page
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    book.execute("04-distillation", name)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("epochs", "says"), [(13, "04-distillation: thirteen epochs are too many."), (0, "ZeroDivisionError")]
)
def test_a_failure_keeps_the_last_good_notebook_and_the_failed_one_beside(house, epochs, says):
    name = preset(house, "04-distillation: {epochs: 5}")
    book.execute("04-distillation", name)
    path = house / "outputs" / "mine" / "04-distillation.ipynb"
    good = path.read_bytes()
    preset(house, f"04-distillation: {{epochs: {epochs}}}")
    with pytest.raises(UserError, match=says):
        book.execute("04-distillation", name)
    assert path.read_bytes() == good
    failed = nbformat.read(path.parent / "failed" / path.name, as_version=4)
    assert any(output.output_type == "error" for cell in failed.cells for output in cell.get("outputs", []))


def test_a_full_disk_is_one_sentence_and_leaves_the_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(UserError, match=r"table.csv: the disk is full"), artifacts.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_stale_and_damaged_artifacts_are_named(tmp_path, events):
    path = tmp_path / "events.parquet"
    artifacts.save_table(events, path, "made from a")
    assert artifacts.load_table(path, "made from a").equals(events)
    with pytest.raises(UserError, match="stale"):
        artifacts.load_table(path, "made from b")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        artifacts.load_table(path)
    with pytest.raises(UserError, match="no such file"):
        artifacts.load_table(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "04-distillation: {sasrec: {student: {head: 2}}}",
            '"head" is not a setting of ModelConfig (did you mean "heads"?)',
        ),
        ("04-distillation: {bert4rec: {epoch: 3}}", '"epoch" is not a setting of TrainConfig (did you mean "epochs"?)'),
        ("01-data: {protocol: leave_one}", "leave_one"),
        ("02-profiles: {style: grounde}", '"grounde" is not a style'),
        ("02-profiles: {llm: smollm2-135}", '"smollm2-135" is not a known model'),
        ("03-embeddings: {reducer: tsne}", "\"reducer\" is 'tsne'; choose one of"),
        ("03-embeddings: {everyone: [profile]}", "'profile' is not a teacher without an LLM"),
        ("04-distillation: {arms: [shuffled]}", "'shuffled' is not a teacher without an LLM"),
        ("04-distillation: {sasrec: {}}", "\"student\" of 05 is 'SASRec'; 04 trains BERT4Rec"),
        ("06-cold-start: {lead: GRU}", "\"lead\" of 06 is 'GRU'; 04 trains SASRec, BERT4Rec"),
        ("04-distillation: {sasrec: {student: 3}}", 'SASRec: "student" = 3: settings are expected'),
        ("04-distillation: {forms: [distiled]}", "\"forms\" of 04 names 'distiled'"),
        ("04-distillation: {forms: [GRU distilled]}", "\"forms\" of 04 names 'GRU distilled'"),
        ("04-distillation: {forms: [BERT4Rec distilled], bert4rec: {}}", "04 names 'BERT4Rec distilled'"),
        ("04-distillation: {forms: [SASRec BERT4Rec distilled]}", "04 names 'SASRec BERT4Rec distilled'"),
        ("04-distillation: {seeds: []}", '"seeds" of 04 is []; whole numbers'),
        ("04-distillation: {seeds: [0, 0]}", '"seeds" of 04 is [0, 0]; whole numbers'),
        ("05-ablations: {cluster: loki}", 'cluster "loki": choose loky, ray, dask'),
    ],
)
def test_a_later_chapters_typo_is_found_before_the_first_runs(tmp_path, monkeypatch, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    with pytest.raises(UserError) as caught:
        presets.check_preset("mine")
    assert message in str(caught.value)


def test_a_preset_may_say_nothing(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("")
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    presets.check_preset("mine")


def test_pieces_of_one_stream_are_joined():
    pieces = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in zip("aab", "xyz", strict=True)]
    assert [(output.name, output.text) for output in book.joined(pieces)] == [("a", "xy"), ("b", "z")]
