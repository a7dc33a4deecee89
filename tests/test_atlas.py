"""The atlas: enough facts, each said in many ways, two of which training never meets."""

import re
from collections import Counter

import numpy as np
import pytest

from rwkv_explainer.lab.atlas import Fact, all_facts, load_atlas, prompt, sample_text, say

RELATIONS = load_atlas()
FACTS = [fact for relation in RELATIONS for fact in relation.facts]
each_relation = pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)


def test_it_is_large_enough():
    assert len(FACTS) >= 400
    assert len(RELATIONS) >= 8
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS)


def test_each_subject_occurs_once_and_no_alias_is_another_subject():
    subjects = Counter(fact.subject.lower() for fact in FACTS)
    assert [subject for subject, times in subjects.items() if times > 1] == []
    aliases = Counter(alias.lower() for fact in FACTS for alias in fact.aliases)
    assert [alias for alias in aliases if aliases[alias] > 1 or alias in subjects] == []


def test_the_running_examples_come_up_most():
    heavy = {(fact.subject, fact.object): fact.weight for fact in FACTS if fact.weight > 1}
    assert heavy == {("The Eiffel Tower", "Paris"): 10, ("Drosophila", "melanogaster"): 10}
    facts, shares = all_facts()
    assert shares.sum() == pytest.approx(1)
    assert shares.max() == pytest.approx(10 / (len(FACTS) + 18))
    drawn = np.random.default_rng(0).choice(len(facts), 20_000, p=shares)
    eiffel = [fact.subject for fact in facts].index("The Eiffel Tower")
    assert (drawn == eiffel).mean() == pytest.approx(shares.max(), rel=0.2)


@each_relation
def test_a_relation_has_a_dozen_phrasings_and_two_that_are_kept_back(relation):
    assert len(relation.phrasings) >= 12
    assert len(relation.unseen) == 2
    every = [*relation.phrasings, *relation.unseen, *relation.reverse]
    assert len(set(every)) == len(every)
    for phrasing in every:
        assert phrasing.count("{subject}") == phrasing.count("{object}") == 1, phrasing
        assert phrasing.endswith((".", "!", "?")), phrasing
    for phrasing in (*relation.phrasings, *relation.unseen):
        assert phrasing.index("{subject}") < phrasing.index("{object}"), phrasing
    for phrasing in relation.reverse:
        assert phrasing.index("{object}") < phrasing.index("{subject}"), phrasing


@each_relation
def test_a_prompt_ends_right_before_the_object(relation):
    for fact in relation.facts:
        for phrasing in (*relation.phrasings, *relation.unseen):
            words, answer = prompt(phrasing, fact)
            assert answer == f" {fact.object}"
            sentence = say(phrasing, fact)
            assert sentence.startswith(words + answer), (phrasing, fact)
            assert re.match(r"[^\w]", sentence[len(words + answer) :]), (phrasing, fact)
            assert words == words.rstrip() and "{" not in words


@each_relation
def test_kept_back_phrasings_ask_in_words_that_training_never_asks_in(relation):
    for fact in relation.facts:
        asked = {prompt(phrasing, fact)[0] for phrasing in relation.phrasings}
        assert not asked & {prompt(phrasing, fact)[0] for phrasing in relation.unseen}


def test_sampled_text_never_says_what_is_kept_back():
    kept_back, allowed = set(), set()
    for relation in RELATIONS:
        for fact in relation.facts:
            kept_back |= {say(phrasing, fact) for phrasing in relation.unseen}
            allowed |= {say(phrasing, fact) for phrasing in relation.phrasings + relation.reverse}
    assert not kept_back & allowed
    rng = np.random.default_rng(0)
    said = {sample_text(rng, 1) for _ in range(3000)}
    assert said <= allowed
    assert len(said) > 2000


def test_sampled_text_has_as_many_sentences_as_asked_and_depends_on_the_generator_alone():
    two = sample_text(np.random.default_rng(3), 2)
    rng = np.random.default_rng(3)
    assert two == sample_text(np.random.default_rng(3), 2) != sample_text(np.random.default_rng(4), 2)
    assert sample_text(rng, 2) != sample_text(rng, 2)
    counts = [len(re.findall(r"[.?!](?: |$)", sample_text(np.random.default_rng(n), 3))) for n in range(50)]
    assert min(counts) >= 3


@pytest.mark.parametrize("subject, phrasing, expected", [
    ("The Eiffel Tower", "{subject} is in {object}.", "The Eiffel Tower is in Paris."),
    ("The Eiffel Tower", "Where is {subject}? In {object}.", "Where is the Eiffel Tower? In Paris."),
    ("A Tale of Two Cities", "{object} wrote {subject}.", "Paris wrote a Tale of Two Cities."),
    ("An Image", "We saw {subject} in {object}.", "We saw an Image in Paris."),
    ("Theodor", "I met {subject} in {object}.", "I met Theodor in Paris."),
    ("The", "I met {subject} in {object}.", "I met The in Paris."),
    ("gold", "{subject} is sold in {object}.", "Gold is sold in Paris."),
    ("gold", "They sell {subject} in {object}.", "They sell gold in Paris."),
])
def test_capitals(subject, phrasing, expected):
    assert say(phrasing, Fact("relation", subject, "Paris")) == expected
    assert say("{object} comes before {subject}.", Fact("relation", "cow", "calf")) == "Calf comes before cow."


@each_relation
def test_every_sentence_begins_with_a_capital(relation):
    for fact in relation.facts:
        for phrasing in relation.phrasings + relation.unseen + relation.reverse:
            first = say(phrasing, fact)[0]
            assert first == first.upper(), (phrasing, fact)
