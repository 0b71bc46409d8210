"""The facts that words tell are those of the sentence's meaning."""

from collections.abc import Iterator
from enum import Enum

import numpy as np

from projects.moving_shapes.told import FACTS, Role, facts_of, read, tell_tokens
from r2tuning.synthetic import make_video
from r2tuning.synthetic.queries import choose_queries
from r2tuning.synthetic.semantics import Meaning


def list_facts(meaning: Meaning) -> Iterator[tuple[str, Enum]]:
    if meaning.place is not None:
        yield "place", meaning.place
    for number, clause in enumerate(meaning.clauses):
        who = "the subject" if number == 0 else "another"
        things = (
            (clause.subject, who, Role.OTHER if number else Role.SUBJECT),
            (clause.center, "another", Role.RELATED),
            (clause.neighbor, "another", Role.RELATED),
        )
        for look, whose, role in things:
            if look is not None:
                yield "role", role
                yield from ((f"look of {whose}", one) for one in (look.color, look.shape, look.size) if one is not None)
        if clause.action is not None:
            yield f"action of {who}", clause.action
        if clause.corner is not None:
            yield "corner", clause.corner


def test_sentences_tell_what_they_mean() -> None:
    queries = [query for seed in range(12) for query in choose_queries(make_video(seed, "train"))]
    assert len(queries) > 200
    for query in queries:
        told = {FACTS[fact] for _, facts in read(query.text) for fact in facts}
        assert told == set(list_facts(query.meaning)), query.text


def test_facts_stand_at_the_last_token_of_what_tells_them() -> None:
    text = "a Crescent moon falls"
    ends = [0, 1, 10, 15, 21, 0]  # start, four words, end
    facts = tell_tokens(text, ends)
    assert facts.shape == (6, len(FACTS))
    rows, numbers = np.nonzero(facts)
    assert [(row, FACTS[number][0], FACTS[number][1].name) for row, number in zip(rows, numbers, strict=True)] == [
        (3, "look of the subject", "MOON"),
        (3, "role", "SUBJECT"),
        (4, "action of the subject", "FALL"),
    ]
    # Cut off before the moon, it tells nothing.
    assert not tell_tokens(text, ends[:3]).any()


def test_topics_follow_each_other_without_a_gap() -> None:
    topics = list(dict.fromkeys(topic for topic, _ in FACTS))
    assert [number for topic in topics for number in facts_of(topic)] == list(range(len(FACTS)))
