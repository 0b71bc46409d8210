"""Scripts are reproducible, unrelated between splits, and physically possible."""

import numpy as np
import pytest

from r2tuning.synthetic import Script, Split, make_video, render
from r2tuning.synthetic.actions import pose_at, track_script
from r2tuning.synthetic.scenes import FPS, SPLITS, Action, Color, Shape, is_held_out

SCRIPTS = {split: [make_video(seed, split) for seed in range(12)] for split in SPLITS}
ALL = [script for scripts in SCRIPTS.values() for script in scripts]


def combinations(script: Script) -> set[tuple[Color, Shape, Action]]:
    return {
        (actor.color, actor.shape, act.action)
        for scene in script.scenes
        for actor in scene.actors
        for act in actor.acts
    }


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_video_and_pixels(split: Split) -> None:
    script = make_video(5, split)
    assert script == SCRIPTS[split][5]
    assert np.array_equal(render(script, 9.3), render(SCRIPTS[split][5], 9.3))


def test_splits_and_seeds_share_no_video() -> None:
    assert len({script.vid for script in ALL}) == len(ALL)
    assert len({script.scenes for script in ALL}) == len(ALL)
    assert len({scene.texture for script in ALL for scene in script.scenes}) == sum(len(s.scenes) for s in ALL)


def test_only_the_test_split_has_held_out_combinations() -> None:
    for split in ("train", "val"):
        assert not any(is_held_out(*combination) for s in SCRIPTS[split] for combination in combinations(s))
    for script in SCRIPTS["test"]:
        assert any(is_held_out(*combination) for combination in combinations(script))


def test_a_fifth_of_the_combinations_is_held_out_but_no_color_shape_or_action() -> None:
    held_out = [(c, s, a) for c in Color for s in Shape for a in Action if is_held_out(c, s, a)]
    assert 0.15 < len(held_out) / (len(Color) * len(Shape) * len(Action)) < 0.25
    trained = {combination for split in ("train", "val") for s in SCRIPTS[split] for combination in combinations(s)}
    assert {color for color, _, _ in trained} == set(Color)
    assert {shape for _, shape, _ in trained} == set(Shape)
    assert {action for _, _, action in trained} == set(Action)


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.vid)
def test_scenes_and_acts_follow_each_other_without_a_gap(script: Script) -> None:
    assert 30 <= script.duration <= 150
    assert script.duration % 2 == 0
    assert script.scenes[0].start == 0
    for scene, following in zip(script.scenes[:-1], script.scenes[1:], strict=True):
        assert scene.end == following.start
        assert scene.place is not following.place
    for scene in script.scenes:
        assert 1 <= len(scene.actors) <= 4
        for actor in scene.actors:
            assert actor.color not in scene.place.hides
            edges = [scene.start, *(act.end for act in actor.acts)]
            assert [act.start for act in actor.acts] == edges[:-1]
            assert edges[-1] == scene.end
            for act, following_act in zip(actor.acts[:-1], actor.acts[1:], strict=True):
                end, start = pose_at(act, np.array([act.end])), pose_at(following_act, np.array([act.end]))
                # To 1e-9 heights: an actor never jumps from one act to the next.
                assert np.allclose([end.x, end.y, end.radius], [start.x, start.y, start.radius], atol=1e-9)
            for time in edges:
                assert round(time, 1) == time


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.vid)
def test_actors_stay_in_the_square_and_in_sight(script: Script) -> None:
    for scene in track_script(script):
        for track in scene.tracks:
            pose = track.pose
            assert min((pose.x - pose.radius).min(), (pose.y - pose.radius).min()) >= 0
            assert max((pose.x + pose.radius).max(), (pose.y + pose.radius).max()) <= 1
            assert track.visible.min() >= 0.45
            assert track.visible.mean() >= 0.9
            if track.actor.center is not None:
                assert scene.tracks[track.actor.center].actor is not track.actor


def test_a_time_outside_the_video_has_no_frame() -> None:
    script = ALL[0]
    render(script, script.duration - 1 / FPS)
    for time in (-0.1, script.duration):
        with pytest.raises(ValueError, match=f"{script.vid} has no frame at"):
            render(script, time)
