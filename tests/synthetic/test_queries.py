"""Queries over many seeds: lengths, moments, distractors, and absent queries."""

import json
from random import Random

import numpy as np
import pytest

from r2tuning.datasets.entries import Entry
from r2tuning.datasets.qvhighlights import parse_qvhighlights
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.language import ACTIONS, COLORS, CORNERS, PLACES, SHAPES, SIZES, phrase
from r2tuning.synthetic.queries import choose_absent_queries, choose_queries, names_held_out, to_line
from r2tuning.synthetic.scenes import FPS, SPLITS, Action, Color, Corner, Place, Shape, Size
from r2tuning.synthetic.semantics import Clause, Look, Meaning, find_truth, split_atoms, to_windows

SCRIPTS = [make_video(seed, split) for split in SPLITS for seed in range(100, 108)]
QUERIES = [(script, choose_queries(script)) for script in SCRIPTS]
ABSENT = [(script, choose_absent_queries(script, queries)) for script, queries in QUERIES]
"""Scripts with their queries, and with absent ones."""


def test_videos_have_queries_and_absent_queries() -> None:
    assert min(len(queries) for _, queries in QUERIES) >= 2
    assert min(len(queries) for _, queries in ABSENT) >= 1
    assert np.mean([len(queries) for _, queries in QUERIES]) > 4


def test_queries_have_2_to_45_words_from_coarse_to_fine() -> None:
    lengths = [len(query.text.split()) for _, queries in (*QUERIES, *ABSENT) for query in queries]
    assert min(lengths) >= 2
    assert max(lengths) <= 45
    assert min(lengths) <= 4
    assert max(lengths) >= 25


def test_each_query_has_one_to_three_moments_exact_to_the_frame() -> None:
    counts = set()
    for script, queries in QUERIES:
        for query in queries:
            counts.add(len(query.windows))
            flat = [time for window in query.windows for time in window]
            assert flat == sorted(set(flat))
            assert 0 <= flat[0] < flat[-1] <= script.duration
            assert all(end - start >= 4 for start, end in query.windows)
            edges = {edge for scene in script.scenes for edge in (scene.start, scene.end)}
            edges |= {act.end for scene in script.scenes for actor in scene.actors for act in actor.acts}
            assert set(flat) <= edges  # nothing begins or ends but at a cut or between two acts
    assert counts == {1, 2, 3}


def test_no_single_thing_that_a_query_says_is_enough() -> None:
    """Each also holds for 2 s or more outside of the query's moments."""
    checked = 0
    for script, queries in QUERIES:
        scenes = track_script(script)
        for query in queries:
            inside = np.zeros(script.frames, dtype=bool)
            for start, end in query.windows:
                inside[round(start * FPS) : round(end * FPS)] = True
            atoms = split_atoms(query.meaning)
            for atom in atoms if len(atoms) > 1 else []:
                assert (find_truth(atom, scenes).certain & ~inside).sum() >= 2 * FPS, (script.vid, query.text, atom)
                checked += 1
    assert checked > 200


def test_who_does_something_is_also_seen_doing_something_else() -> None:
    checked = 0
    for script, queries in QUERIES:
        scenes = track_script(script)
        for query in queries:
            truth = find_truth(query.meaning, scenes)
            for clause in query.meaning.clauses:
                if clause != Clause(clause.subject):
                    seen = find_truth(Meaning(clauses=(Clause(clause.subject),)), scenes)
                    assert (seen.certain & ~truth.possible).sum() >= 2 * FPS, (script.vid, query.text)
                    checked += 1
    assert checked > 200


def test_every_video_has_actors_that_share_something_but_not_all() -> None:
    shared = np.zeros(3)
    for script in SCRIPTS:
        actors = [actor for scene in script.scenes for actor in scene.actors]
        pairs = [(a, b) for a in actors for b in actors]
        color = any(a.color is b.color and a.shape is not b.shape for a, b in pairs)
        shape = any(a.shape is b.shape and a.color is not b.color for a, b in pairs)
        acts = [{act.action for act in actor.acts} for actor in actors]
        action = any(one & other for place, one in enumerate(acts) for other in acts[:place])
        assert color or shape or action, script.vid
        shared += color, shape, action
    assert (shared / len(SCRIPTS) >= 0.8).all()


def test_absent_queries_are_true_nowhere_yet_nearly() -> None:
    for (script, absent), (_, queries) in zip(ABSENT, QUERIES, strict=True):
        scenes = track_script(script)
        for query in absent:
            assert query.windows == ()
            assert not find_truth(query.meaning, scenes).possible.any()
            said = set(split_atoms(query.meaning))
            # A changed look of a pair counts once for each property it has in the other's place.
            assert min(len(said ^ set(split_atoms(other.meaning))) for other in queries) <= 2


def test_held_out_combinations_are_asked_for_in_the_test_split_only() -> None:
    asked = dict.fromkeys(SPLITS, 0)
    for script, queries in (*QUERIES, *ABSENT):
        asked[script.split] += sum(names_held_out(query.meaning) for query in queries)
    assert asked["train"] == asked["val"] == 0
    assert asked["test"] > 20
    for script, queries in QUERIES:
        told = [query for query in queries if any(clause.action for clause in query.meaning.clauses)]
        assert script.split != "test" or all(names_held_out(query.meaning) for query in told)


def test_annotations_are_the_same_every_time_and_in_qvhighlights_format() -> None:
    for script in SCRIPTS[::5]:
        annotations = [*describe(script), *describe_absent(script)]
        lines = [to_line(annotation) for annotation in annotations]
        assert lines == [
            to_line(a) for a in (*describe(make_video(script.seed, script.split)), *describe_absent(script))
        ]
        assert len({annotation.qid for annotation in annotations}) == len(annotations)
        for annotation, line in zip(annotations, lines, strict=True):
            read = parse_qvhighlights(Entry("line", json.loads(line)))
            assert (read.qid, read.vid, read.query) == (annotation.qid, annotation.vid, annotation.query)
            assert (read.moments, read.duration) == (annotation.moments, annotation.duration)
            assert np.array_equal(read.saliency, annotation.saliency)


@pytest.mark.parametrize("seed", range(3))
def test_a_phrase_says_all_of_the_meaning_and_nothing_else(seed: int) -> None:
    chance = Random(seed)
    for action in Action:
        clause = Clause(
            Look(chance.choice(list(Color)), chance.choice(list(Shape)), chance.choice(list(Size))),
            action,
            corner=chance.choice(list(Corner)),
            center=Look(Color.WHITE, Shape.RING) if action is Action.CIRCLE else None,
        )
        text = phrase(chance, Meaning(chance.choice(list(Place)), (clause,)))
        look = clause.subject
        assert look.color is not None
        assert look.shape is not None
        assert look.size is not None
        verbs = [form for verb in ACTIONS[action] for form in (verb.finite, verb.participle)]
        for ways in (COLORS[look.color], SHAPES[look.shape], SIZES[look.size], verbs, CORNERS[clause.corner]):
            assert any(f"{way}" in text for way in ways), (text, ways)
        assert ("ring" in text or "hoop" in text) == (
            action is Action.CIRCLE or look.shape is Shape.RING or "ring " in text
        )


def test_phrases_vary() -> None:
    meaning = Meaning(Place.SNOW, (Clause(Look(Color.RED, Shape.STAR), Action.FALL),))
    assert len({phrase(Random(seed), meaning) for seed in range(60)}) > 40
    assert all(phrase(Random(seed), Meaning(place)).strip() for seed in range(20) for place in PLACES)


def test_windows_are_runs_of_frames() -> None:
    flags = np.zeros(50, dtype=bool)
    assert to_windows(flags) == ()
    flags[[0, 1, 49]] = True
    assert to_windows(flags) == ((0.0, 0.2), (4.9, 5.0))
