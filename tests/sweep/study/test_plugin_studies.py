"""What a storage keeps of a study's plugins: nothing that would be imported."""

from pathlib import Path

from study_files import made_study

from brainseg.sweep.study.definition import definition_of, from_definition
from examples import forgotten

PLUGIN = "plugins=[metric_of_a_plugin]"


def test_a_stored_study_names_nothing_to_import(tmp_path: Path) -> None:
    with forgotten():
        study = made_study(tmp_path, metric="slices", overrides=[PLUGIN, "metrics=[slices]"])
        definition = definition_of(study, data_fingerprint="")
    assert definition["overrides"] == ["metrics=[slices]"]
    definition["overrides"].append("++plugins=[not_ours]")
    again = from_definition(definition, overrides=["plugins=[nor_this]"], name="study", trials=1)
    assert again.overrides == ("metrics=[slices]",)
    assert again.metrics == {"slices": "maximize"}
