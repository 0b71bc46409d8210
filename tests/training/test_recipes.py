"""Recipes: the published ones say what the published models were trained with, and mistakes are named."""

from pathlib import Path

import pytest
import yaml

from r2tuning.checkpoints.published import PUBLISHED
from r2tuning.datasets import find_benchmark
from r2tuning.errors import RecipeError
from r2tuning.training.recipes import list_recipes, load_recipe, write_recipe

DOMAINS = {
    "youtube-highlights": ("dog", "gymnastics", "parkour", "skating", "skiing", "surfing"),
    "tvsum": ("BK", "BT", "DS", "FM", "GA", "MS", "PK", "PR", "VT", "VU"),
}
#        fps   unit  batch epochs drops repeat lr    dropout saliency nms    warm-up
GROUNDING = {
    "qvhighlights": (0.5, 2, 128, 30, (20,), 4, 5e-4, 0.5, 0.1, "normal", 500),
    "ego4d-nlq": (0.5, None, 32, 30, (20,), 1, 2.5e-4, 0.3, 0.1, "linear", 500),
    "charades-sta": (1, 0.1, 32, 50, (30,), 1, 2.5e-4, 0.35, 0.01, "linear", 500),
    "tacos": (0.5, None, 32, 100, (50,), 1, 2.5e-4, 0.5, 0.05, "linear", 500),
}
YOUTUBE = (0.59, None, 4, 200, (), 1, 5e-4, 0.5, 0.1, "none", 50)
TVSUM = (0.5, None, 4, 500, (), 1, 5e-4, 0.5, 0.1, "none", 50)
PRESETS = (
    GROUNDING
    | {f"youtube-highlights/{domain}": YOUTUBE for domain in DOMAINS["youtube-highlights"]}
    | {f"tvsum/{domain}": TVSUM for domain in DOMAINS["tvsum"]}
)


def test_there_is_a_recipe_for_every_published_model() -> None:
    assert set(PRESETS) == {entry.name for entry in PUBLISHED}
    assert set(list_recipes()) == {*PRESETS, "custom", "tvsum", "youtube-highlights", "moving-shapes"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_the_model_was_trained_with(name: str) -> None:
    recipe = load_recipe(name)
    training, optimizer, losses = recipe.training, recipe.optimizer, recipe.losses
    found = (
        recipe.fps,
        recipe.decoding.unit,
        training.batch_size,
        training.epochs,
        optimizer.drop_epochs,
        recipe.data.repeat,
        optimizer.lr,
        recipe.model.dropout,
        losses.saliency,
        recipe.decoding.nms,
        optimizer.warmup_steps,
    )
    assert found == PRESETS[name]
    assert recipe.name == name
    assert (losses.recipe, losses.focal_alpha, losses.focal_gamma) == ("released", None, 2)
    assert (losses.classification, losses.offset) == (1, 0.2)
    assert (losses.video_calibration, losses.layer_calibration) == (0.1, 0.1)
    assert (optimizer.weight_decay, optimizer.warmup_factor) == (1e-4, 1e-3)
    assert (optimizer.drop_factor, optimizer.clip_norm) == (0.1, 35)
    assert (training.precision, training.ema, training.start_from) == ("auto", None, None)
    benchmark, _, domain = name.partition("/")
    assert (recipe.data.benchmark, recipe.data.domain) == (benchmark, domain or None)
    model = recipe.model
    assert model.family == ("saliency" if domain else "grounding")
    assert model.strides == ((1,) if domain else (1, 2, 4, 8))
    assert (model.layers, model.hidden, model.heads, model.drop_path, model.refinement) == (4, 256, 8, 0.1, "reversed")


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_a_preset_makes_what_the_registry_describes(entry: object) -> None:
    assert hasattr(entry, "name")
    recipe = load_recipe(entry.name)
    for mine, theirs in (
        (recipe.fps, "fps"),
        (recipe.window, "window"),
        (recipe.decoding.unit, "unit"),
        (recipe.decoding.nms, "nms"),
        (recipe.model.dropout, "dropout"),
        (recipe.model.family, "family"),
    ):
        assert mine == getattr(entry, theirs), theirs
    assert recipe.decoding.nms_threshold == 0.7
    benchmark = find_benchmark(recipe.data.benchmark)
    assert benchmark.fps in (recipe.fps, None)
    assert set(benchmark.domains) == set(DOMAINS.get(benchmark.name, ()))


def test_custom_learns_moments() -> None:
    recipe = load_recipe("custom")
    assert (recipe.data.benchmark, recipe.model.family, recipe.model.layers) == ("custom", "grounding", 4)
    assert max(recipe.optimizer.drop_epochs) < recipe.training.epochs


def test_published_recipes_start_as_the_released_code_does() -> None:
    starts = {name: load_recipe(name).model.init for name in list_recipes()}
    assert {name for name, init in starts.items() if init == "default"} == {"custom", "moving-shapes"}
    assert len(starts) == 24


def test_recipes_of_older_runs_are_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "extends: custom\nname: own\ndata: {benchmark: own}\ntraining: {fused: true}\n", encoding="utf-8"
    )
    assert load_recipe(tmp_path / "recipe.yaml") == load_recipe("custom")


def test_moving_shapes_learns_on_the_embedded_clip_and_keeps_test_aside() -> None:
    recipe = load_recipe("moving-shapes")
    assert (recipe.backbone, recipe.fps, recipe.window) == ("r2tuning/demo", find_benchmark("moving-shapes").fps, 150)
    assert (recipe.data.benchmark, recipe.data.train_split, recipe.data.validation_split) == (
        "moving-shapes",
        "train",
        "val",
    )
    assert max(recipe.optimizer.drop_epochs) < recipe.training.epochs


@pytest.mark.parametrize("name", ["custom", "tvsum/BK", "qvhighlights", "moving-shapes"])
def test_a_written_recipe_reads_the_same(name: str, tmp_path: Path) -> None:
    changes = ["optimizer.lr=1e-5", "name='1e5'", "data.annotations=a b.csv", "training.ema=0.999", "model.layers=2"]
    recipe = load_recipe(name, changes)
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_names_are_known_in_upper_and_lower_case() -> None:
    assert load_recipe("TVSum/bk") == load_recipe("tvsum/BK")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimizer.lr=1e-4", "lr", 1e-4),
        ("optimizer.lr=3", "lr", 3),
        ("optimizer.drop_epochs=[3, 5]", "drop_epochs", (3, 5)),
        ("optimizer={lr: 2e-3, warmup_steps: 7}", "warmup_steps", 7),
    ],
)
def test_a_set_value_is_taken_and_the_others_stay(override: str, key: str, value: object) -> None:
    changed, before = load_recipe("tacos", [override]).optimizer, load_recipe("tacos").optimizer
    assert getattr(changed, key) == value
    assert changed.weight_decay == before.weight_decay
    assert changed.clip_norm == before.clip_norm


def test_values_are_what_their_fields_need() -> None:
    sets = ["training.precision=32", "name=2024", "data.annotations=12e4", "decoding.unit=null", "backbone=7"]
    recipe = load_recipe("qvhighlights", [*sets, "optimizer.lr=1", "optimizer.lr=2"])
    assert (recipe.training.precision, recipe.name, recipe.data.annotations) == ("32", "2024", Path("12e4"))
    assert (recipe.decoding.unit, recipe.backbone) == (None, "7")
    assert recipe.optimizer.lr == 2  # the last one counts


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=1", "unknown key optimizer.learning_rate; did you mean optimizer.lr?"),
        ("lr=1e-4", "unknown key lr; did you mean optimizer.lr?"),
        ("training.batchsize=4", "unknown key training.batchsize; did you mean training.batch_size?"),
        ("dropout=0", "unknown key dropout; did you mean model.dropout?"),
        (
            "zzz=1",
            "unknown key zzz; valid are name, backbone, fps, window, model, decoding, data, losses, optimizer,",
        ),
        ("extends=own", "unknown key extends; "),
        ("optimizer.lr=-1", "optimizer.lr: is -1; input should be greater than 0"),
        ("optimizer.lr=.inf", "optimizer.lr: is inf; input should be a finite number"),
        ("optimizer.lr=fast", "optimizer.lr: is 'fast'; input should be a valid number"),
        ("training.epochs=1.5", "training.epochs: is 1.5; input should be a valid integer"),
        ("training.ema=1", "training.ema: is 1; input should be less than 1"),
        ("data=fast", "data: is 'fast'; input should be a valid dictionary .*"),
        ("model.dropout=2", "model.dropout: is 2; input should be less than 1; correct it"),
        ("losses.recipe=papers", "losses.recipe: is 'papers'; input should be 'released' or 'paper'"),
        ("training.precision=16", "training.precision: is '16'; input should be .*'16-mixed'.*"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^custom: {message}") as caught:
        load_recipe("custom", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["optimizer.lr", "=3", "optimizer.lr=[", ""])
def test_a_setting_must_be_key_and_value(override: str) -> None:
    with pytest.raises(RecipeError, match=r"^--set "):
        load_recipe("custom", [override])


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_a_file_extends_ours_and_others_beside_it(tmp_path: Path) -> None:
    base = write(tmp_path / "configs/base.yaml", "extends: charades-sta\noptimizer: {lr: 1e-3}\n")
    mine = write(tmp_path / "configs/mine.yaml", "extends: base.yaml\nname: mine\ntraining: {epochs: 3}\n")
    recipe = load_recipe(mine, ["training.epochs=4"])
    assert (recipe.name, recipe.fps, recipe.optimizer.lr, recipe.training.epochs) == ("mine", 1, 1e-3, 4)
    assert recipe.optimizer.drop_epochs == (30,)
    assert load_recipe(base).name == "charades-sta"


def test_circular_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "one.yaml", "extends: two.yaml\n")
    write(tmp_path / "two.yaml", "extends: one.yaml\n")
    with pytest.raises(RecipeError, match=r"one.yaml: extends itself \(.*two.yaml → .*one.yaml\); break the circle"):
        load_recipe(one)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"extends itself"):
        load_recipe("./one.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimizer: {lr: [}", "not YAML"),
        ("just words", "holds str, not keys and values"),
        ("- 1\n", "holds list, not keys and values"),
        ("extends: charade-sta\n", "charade-sta: no such recipe; did you mean charades-sta?"),
        ("fps: 1\n", "name: is missing"),
        ("name: x\nlr: 3\n", "unknown key lr; did you mean optimizer.lr?"),
        ("name: x\n!!python/object/apply:os.getcwd []\n", "not YAML"),
        ("", "name: is missing"),
    ],
)
def test_a_wrong_file_is_named_with_the_way_out(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path / "mine.yaml", content))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^qvhighlight: no such recipe; did you mean qvhighlights?"):
        load_recipe("qvhighlight")
    with pytest.raises(RecipeError, match=r"^xyz: no such recipe; give a YAML file or one of charades-sta, "):
        load_recipe("xyz")
    binary = tmp_path / "mine.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"mine\.yaml: not UTF-8 text"):
        load_recipe(binary)


def test_files_of_the_package_hold_only_what_differs() -> None:
    folder = Path(__file__).resolve().parents[2] / "src" / "r2tuning" / "recipes"
    found = {str(path.relative_to(folder).with_suffix("")): path for path in folder.rglob("*.yaml")}
    assert sorted(found) == list_recipes()
    for name, path in found.items():
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == name


def test_one_field_chooses_the_losses_of_the_paper() -> None:
    losses = load_recipe("charades-sta", ["losses.recipe=paper"]).losses
    assert (losses.recipe, losses.focal_alpha, losses.offset) == ("paper", 0.9, 0.1)
    assert losses.saliency == 0.01  # what the recipe says itself stays
    assert load_recipe("charades-sta", ["losses.recipe=paper", "losses.offset=0.3"]).losses.offset == 0.3
