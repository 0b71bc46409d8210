import subprocess
import sys

import pytest

from r2tuning.checkpoints.published import PUBLISHED, find_published, match_published, suggest_published
from r2tuning.errors import CheckpointError


def test_twenty_distinct_files_with_the_hash_in_their_names():
    assert len(PUBLISHED) == 20
    for attribute in ("name", "file", "sha256_prefix"):
        assert len({getattr(entry, attribute) for entry in PUBLISHED}) == 20, attribute
    for entry in PUBLISHED:
        assert entry.file == f"checkpoints/{entry.file.split('/')[-1]}"
        assert entry.file.endswith(f"-{entry.sha256_prefix}.pth")
        assert int(entry.sha256_prefix, 16) >= 0
        assert len(entry.sha256_prefix) == 8


def test_facts_of_each_benchmark():
    facts = {e.name: (e.family, e.fps, e.window, e.unit, e.nms, e.dropout) for e in PUBLISHED}
    assert facts["qvhighlights"] == ("grounding", 0.5, 150, 2, "normal", 0.5)
    assert facts["ego4d-nlq"] == ("grounding", 0.5, 480, None, "linear", 0.3)
    assert facts["charades-sta"] == ("grounding", 1, 195, 0.1, "linear", 0.35)
    assert facts["tacos"] == ("grounding", 0.5, 780, None, "linear", 0.5)
    assert facts["tvsum/VU"] == ("saliency", 0.5, 650, None, "none", 0.5)
    assert facts["youtube-highlights/surfing"] == ("saliency", 0.59, 600, None, "none", 0.5)


def test_scores_carry_the_benchmarks_metric_names():
    assert find_published("qvhighlights").scores == {
        "MR-full-R1@0.3": 78.71,
        "MR-full-R1@0.5": 67.74,
        "MR-full-R1@0.7": 51.87,
        "MR-full-mAP": 47.86,
        "HL-min-VeryGood-mAP": 39.45,
    }
    assert find_published("tvsum/bt").scores == {"mAP": 92.35}


@pytest.mark.parametrize("name", ["QVHighlights", "TVSUM/bk", "youtube-highlights/Dog"])
def test_names_are_found_in_any_case(name):
    assert find_published(name).name.lower() == name.lower()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("qvhighlight", "qvhighlights"), ("ego4d", "ego4d-nlq"), ("youtube/dog", "youtube-highlights/dog")],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong, right):
    assert right in suggest_published(wrong)
    with pytest.raises(CheckpointError, match=f"no published model '{wrong}'; did you mean .*{right}"):
        find_published(wrong)


def test_a_file_is_known_by_the_hash_in_its_name():
    assert match_published("r2_tuning_qvhighlights-ed516355.pth").name == "qvhighlights"
    assert match_published("mine-ed516355.pth").name == "qvhighlights"
    assert match_published("ed516355.pth") is None
    assert match_published("r2_tuning_qvhighlights-ed516356.pth") is None


def test_listing_the_models_imports_neither_torch_nor_the_hub_client():
    code = (
        "import sys; from r2tuning.checkpoints import PUBLISHED; "
        "[entry.is_cached for entry in PUBLISHED]; "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_cached_means_both_files(monkeypatch, tmp_path):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    entry = find_published("tvsum/BK")
    assert not entry.is_cached
    entry.cached_folder.mkdir(parents=True)
    (entry.cached_folder / "model.safetensors").touch()
    assert not entry.is_cached
    (entry.cached_folder / "config.json").touch()
    assert entry.is_cached
    assert not find_published("tvsum/BT").is_cached
