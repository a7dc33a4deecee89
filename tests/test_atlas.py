"""The atlas: facts with one answer each, said in very many ways, some of which training never meets."""

import re
from collections import Counter

import numpy as np
import pytest

from rwkv_explainer.lab import atlas
from rwkv_explainer.lab.atlas import (
    ASKED,
    GIVEN,
    PHRASINGS,
    Cores,
    Fact,
    Grammar,
    all_facts,
    all_phrasings,
    can_be_drawn,
    find,
    inside,
    kinds,
    load_atlas,
    phrasings,
    prompt,
    questions,
    sample_text,
    say,
    subject_in,
)

RELATIONS = load_atlas()
WAYS = [(relation, direction) for relation in RELATIONS for direction in relation.directions]
each_way = pytest.mark.parametrize("relation, direction", WAYS, ids=lambda part: getattr(part, "name", part))
PARIS = Fact("relation", "The Eiffel Tower", "Paris")


# ---------------------------------------------------------------------------------------------------------------------
# the table


def test_it_is_large_enough():
    assert 1400 <= len(all_facts()) <= 1900
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS) >= 25
    assert sum(len(relation.asked["inverse"]) for relation in RELATIONS if "inverse" in relation.asked) > 900


@each_way
def test_whoever_is_asked_for_has_one_answer(relation, direction):
    """Whatever is given, by its first name or another, is given once: there are no two answers to a question."""
    given = Counter(fact.slots[GIVEN[direction]].lower() for fact in relation.asked[direction])
    if direction == "forward":
        given.update(inside(alias).lower() for fact in relation.facts for alias in fact.aliases)
    assert [name for name, times in given.items() if times > 1] == []


@each_way
def test_training_speaks_of_every_fact_that_is_asked_and_of_no_second_answer_to_it(relation, direction):
    said, asked = relation.said[direction], relation.asked[direction]
    assert set(asked) <= set(said)
    given = Counter(getattr(fact, GIVEN[direction]) for fact in said)
    if direction == "forward":
        assert max(given.values()) == 1
    else:
        assert all(given[fact.object] == 1 for fact in asked)
        assert relation.several or len(said) == len(asked)


def test_a_main_or_shared_name_is_in_the_table():
    for relation in RELATIONS:
        assert relation.main <= {fact.subject for fact in relation.facts}, relation.name
        assert relation.shared <= {fact.object for fact in relation.facts}, relation.name


def test_the_inverse_is_asked_where_the_object_has_one_subject():
    capitals, towers = find("capital-country"), find("landmark-city")
    assert len(capitals.asked["inverse"]) == len(capitals.facts)
    about = {fact.object: fact.subject for fact in towers.asked["inverse"]}
    assert about["Paris"] == "The Eiffel Tower" and about["Seattle"] == "The Space Needle" and "Tokyo" not in about
    assert "country-continent" not in {r.name for r in RELATIONS if "inverse" in r.directions}
    with pytest.raises(ValueError, match="relation: expected one of landmark-city, .*, got landmarks"):
        find("landmarks")


def test_a_block_of_lines_is_read_as_facts():
    days = "[day]\nMonday | the day of the Moon = Tuesday\n? which day comes next\n> {object} comes next"
    lines = f"{days}\n[month]\nMay = June"
    monday, may = atlas.read_facts({"name": "next", "kinds": ["day or month", "day or month"], "facts": lines})
    assert monday == Fact(
        "next",
        "Monday",
        "Tuesday",
        ("the day of the Moon",),
        ("day or month", "day"),
        asks=("which day comes next",),
        says=("{object} comes next",),
    )
    assert may == Fact("next", "May", "June", (), ("day or month", "month"))


# ---------------------------------------------------------------------------------------------------------------------
# capitals and articles


@pytest.mark.parametrize(
    "fact, phrasing, expected",
    [
        (PARIS, "{subject} is in {object}.", "The Eiffel Tower is in Paris."),
        (PARIS, "Where is {subject}? In {object}.", "Where is the Eiffel Tower? In Paris."),
        (PARIS, "you see {subject}. {subject} is high.", "You see the Eiffel Tower. The Eiffel Tower is high."),
        (PARIS, '"{subject}!" he said.', '"The Eiffel Tower!" he said.'),
        (PARIS, "Sight:\n{subject}", "Sight:\nThe Eiffel Tower"),
        (
            Fact("", "A Tale of Two Cities", "Charles Dickens", titles=True),
            "{object} wrote {subject}.",
            "Charles Dickens wrote A Tale of Two Cities.",
        ),
        (Fact("", "Theodor", "x"), "I met {subject} in {object}.", "I met Theodor in x."),
        (Fact("", "The", "x"), "I met {subject} in {object}.", "I met The in x."),
        (Fact("", "gold", "Au"), "{subject} is {object}.", "Gold is Au."),
        (Fact("", "elephant", "mammal"), "a {subject} is a {object}.", "An elephant is a mammal."),
        (Fact("", "ant", "insect"), "we know that a {subject} is a {object}.", "We know that an ant is an insect."),
        (Fact("", "country", "the Netherlands"), "{object}. Via {object}.", "The Netherlands. Via the Netherlands."),
    ],
)
def test_capitals_and_articles(fact, phrasing, expected):
    assert say(phrasing, fact) == expected


def test_the_subject_is_spelled_as_it_stands_in_the_phrasing():
    for phrasing in ("{subject} is in {object}.", "Who knows {subject} in {object}?"):
        assert subject_in(phrasing, PARIS) in say(phrasing, PARIS)


@pytest.mark.parametrize(
    "phrasing, direction, before, answer",
    [
        ("The city of {subject} is {object}, of course.", "forward", "The city of the Eiffel Tower is", " Paris"),
        ("{object} has {subject}.", "inverse", "Paris has", " the Eiffel Tower"),
        ("What is in {object}? {subject}.", "inverse", "What is in Paris?", " The Eiffel Tower"),
        ("Is it a {subject}? A {object}.", "forward", "Is it a the Eiffel Tower?", " Paris"),
    ],
)
def test_a_prompt_is_all_that_stands_before_the_answer(phrasing, direction, before, answer):
    assert prompt(phrasing, PARIS, direction) == (before, answer)


# ---------------------------------------------------------------------------------------------------------------------
# the grammar


@each_way
def test_each_direction_has_thousands_of_forms_and_two_that_are_kept_back(relation, direction):
    assert len(all_phrasings(relation, direction)) > 2500
    cores = relation.cores[direction]
    assert len(set(cores.unseen)) == 2
    for phrasing in (*cores.says, *cores.free, *cores.unseen):
        assert phrasing.count("{subject}") == phrasing.count("{object}") == 1, phrasing
    for phrasing in cores.unseen:
        assert phrasing.index(GIVEN[direction]) < phrasing.index(ASKED[direction]), phrasing
    for question in (*cores.nouns, *cores.asks, *cores.direct, *cores.indirect):
        assert question.count(f"{{{GIVEN[direction]}}}") == 1 and question.count("{") == 1, question


@each_way
def test_training_draws_no_unseen_phrasing_and_no_foreign_one_that_is_asked(relation, direction):
    """Neither whole nor up to the answer."""
    drawn = all_phrasings(relation, direction)
    for phrasing in PHRASINGS:
        for text in phrasings(relation, direction, phrasing):
            assert (atlas.prepare(text) in drawn) <= (phrasing == "seen"), text
            assert can_be_drawn(text, relation, direction) == (phrasing == "seen"), text


@each_way
def test_foreign_phrasings_hold_what_they_need(relation, direction):
    for text in atlas.foreign_phrasings().get((relation.name, direction), ()):
        assert text.count(f"{{{ASKED[direction]}}}") == 1 <= text.count(f"{{{GIVEN[direction]}}}"), text
        assert text.index(GIVEN[direction]) < text.index(ASKED[direction]), text


def test_foreign_phrasings_that_training_draws_too_are_not_asked(monkeypatch):
    capitals = find("capital-country")
    texts = (
        "{subject} is the capital of {object}!",
        "Which country calls {subject} its capital? {object}",
        "If {subject} sank into the sea, there would be tears in {object}.",
        "If {subject} sank into the sea, there would be tears in {object}, I think.",
    )
    monkeypatch.setattr(atlas, "foreign_phrasings", lambda: {("capital-country", "forward"): texts})
    monkeypatch.setattr(atlas, "all_questions", atlas.all_questions.__wrapped__)  # without what it remembers
    assert phrasings(capitals, "forward", "foreign") == texts[2:]
    asked = questions("capital-country", "forward", "foreign")
    assert len(asked) == len(capitals.facts)  # both ask in the same words
    assert "If Paris sank into the sea, there would be tears in" in {question.prompt for question in asked}


def test_a_foreign_set_is_of_a_relation_and_direction_of_the_atlas():
    ways = {(relation.name, direction) for relation, direction in WAYS}
    assert atlas.foreign_phrasings().keys() <= ways


CORES = Cores(
    nouns=("the home of {subject}",),
    asks=("which city has {subject}",),
    direct=("where is {subject}",),
    indirect=("where {subject} is",),
    says=("{subject} is in {object}",),
    free=("Greetings from {subject} in {object}.",),
)


def test_a_carrier_says_a_core_with_its_capitals():
    spoken = set(Grammar(CORES, "forward").everything())
    said = {text.format_map(PARIS.slots) for text in spoken}
    for sentence in (
        "The home of the Eiffel Tower is Paris.",
        "Where is the Eiffel Tower? Paris.",
        "Which city has the Eiffel Tower? It is Paris.",
        "Tell me where the Eiffel Tower is. Paris.",
        "As everyone knows, the Eiffel Tower is in Paris.",
        "Did you know that the Eiffel Tower is in Paris?",
        '"Where is the Eiffel Tower?" asked the teacher. "Paris," said the girl at the back.',
        "Greetings from the Eiffel Tower in Paris.",
        "Paris is the home of the Eiffel Tower.",
        "Q: What is the home of the Eiffel Tower?\nA: Paris.",
        "The Eiffel Tower is in Paris, of course.",
    ):
        assert sentence in said
    assert not any("{" in sentence for sentence in said)
    assert not any("Where the Eiffel Tower is" in sentence for sentence in said)


def said_about(name: str) -> list[tuple[str, float]]:
    """Every sentence that training can draw about what has this name, in any relation, and how often it comes up."""
    found = []
    for about in atlas.topics():
        if name not in (about.fact.slots["subject"], about.fact.slots["object"]):
            continue
        inverse = atlas.INVERSE if "inverse" in about.grammars else 0.0
        own = atlas.OWN if about.own else 0.0
        parts = [(about.grammars["forward"], (1 - inverse) * (1 - own)), (about.own, (1 - inverse) * own)]
        for spoken, share in [*parts, (about.grammars.get("inverse"), inverse)]:
            shapes = spoken.cores if spoken and share else {}
            for shape, cores in shapes.items():
                carriers = range(len(atlas.carriers()[shape]))
                weight = share * atlas.SHARES[shape] / len(carriers) / len(cores)
                weight /= sum(atlas.SHARES[shape] for shape in spoken.shapes)
                for carrier in carriers:
                    for core in range(len(cores)):
                        found.append((spoken.sentence(shape, carrier, core).format_map(about.names[0]), weight))
    return found


@each_way
def test_after_a_prompt_that_training_speaks_the_answer_is_the_likeliest_to_follow(relation, direction):
    """Else no model can recall it: *The capital of Japan is* must not go on *called Tokyo*."""
    fact = relation.asked[direction][0]
    sentences = said_about(fact.slots[GIVEN[direction]])
    for question in questions(relation.name, direction, "seen"):
        if question.fact is not fact:
            continue
        answer, others = 0.0, Counter()
        for text, weight in sentences:
            if not text.startswith(question.prompt + (" " if question.prompt[-1] != "?" else "")):
                continue
            rest = text[len(question.prompt) :]
            if rest.startswith(atlas.direct_answer(question)):
                answer += weight
            else:
                others[rest.split()[0]] += weight
        assert answer > 3 * max(others.values(), default=0.0), (question.prompt, others.most_common(3))


def test_the_articles_prompts_are_trained_on():
    tower, fly = find("landmark-city").facts[0], find("genus-species").facts[0]
    sights, species = (phrasings(find(name), "forward", "seen")[0] for name in ("landmark-city", "genus-species"))
    assert prompt(sights, tower) == ("The Eiffel Tower is located in the city of", " Paris")
    assert prompt(species, fly) == ("Drosophila", " melanogaster")


# ---------------------------------------------------------------------------------------------------------------------
# training text


@pytest.fixture(scope="module")
def sampled():
    rng = np.random.default_rng(0)
    return [sample_text(rng, 1) for _ in range(40_000)]


def test_every_sentence_is_clean(sampled):
    for sentence in sampled:
        assert sentence[0] == sentence[0].upper(), sentence
        assert not re.search(r"[{}^]|  |\b[Tt]he [Tt]he\b|\b[Aa] (?!uni|us|one)[aeiou]|\ba the\b", sentence), sentence


def test_sentences_seldom_repeat(sampled):
    assert len(set(sampled)) > 0.8 * len(sampled)


def test_each_fact_comes_up_as_often_as_any_other_and_both_ways(sampled):
    spoken = Counter()
    draw = Grammar.draw

    def count(self, u):
        spoken[self.direction] += 1
        return draw(self, u)

    rng = np.random.default_rng(1)
    facts = Counter(atlas.topics()[int(rng.random() * len(all_facts()))].fact for _ in range(100))
    assert max(facts.values()) < 5  # no fact is favored
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grammar, "draw", count)
        sample_text(np.random.default_rng(2), 4000)
    both = sum("inverse" in topic.grammars for topic in atlas.topics()) / len(all_facts())
    assert spoken["inverse"] / 4000 == pytest.approx(atlas.INVERSE * both, rel=0.1)
    towers = [sentence for sentence in sampled if "Eiffel Tower" in sentence]
    assert len(towers) / len(sampled) == pytest.approx(1 / len(all_facts()), rel=0.7)


def test_a_sentence_about_a_fact_of_its_own_words_uses_them(sampled):
    assert any(re.search("spiders? (has|have) eight legs", sentence) for sentence in sampled)
    assert any("How many legs does a spider have? Eight" in sentence for sentence in sampled)


def test_titles_are_spelled_with_a_large_and_a_small_article(sampled):
    assert any(" the Mona Lisa" in sentence for sentence in sampled)
    assert any(" The Mona Lisa" in sentence for sentence in sampled)


def test_lists_hold_true_pairs(sampled):
    heading = find("capital-country").cores["inverse"].list
    lists = [sentence for sentence in sampled if sentence.startswith(f"{heading}: ")]
    true = {fact.slots["object"]: fact.slots["subject"] for fact in find("capital-country").facts}
    assert lists
    for text in lists:
        pairs = re.split(r"; |\n|, ", text.removeprefix(f"{heading}: ").removesuffix("."))
        if " - " in text:
            assert all(true[pair.split(" - ")[0]] == pair.split(" - ")[1] for pair in pairs), text


def test_sampled_text_can_keep_to_some_relations():
    rng = np.random.default_rng(0)
    moons = {fact.slots["subject"] for fact in find("moon-planet").facts}
    sentences = [sample_text(rng, 1, ("moon-planet",)) for _ in range(50)]
    assert all(any(moon in sentence for moon in moons) for sentence in sentences)
    with pytest.raises(ValueError, match="got moons"):
        sample_text(rng, 1, ("moons",))


def test_nats_are_the_entropy_of_what_is_drawn():
    rng = np.random.default_rng(0)
    shapes, draws = Counter(), 20_000
    one = atlas.grammar("moon-planet", "forward")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one, "sentence", lambda shape, carrier, core: shapes.update([shape]) or "")
        for _ in range(draws):
            one.draw(rng.random(3).tolist())
    shapes["list"] = draws - shapes.total()
    entropy = sum(
        times
        / draws
        * (np.log(draws / times) + np.log(len(atlas.carriers().get(shape, [1])) * len(one.cores.get(shape, [1]))))
        for shape, times in shapes.items()
    )
    assert one.nats() == pytest.approx(entropy, rel=0.01)
    assert atlas.nats_per_sentence(("moon-planet",)) == pytest.approx(
        np.log(len(find("moon-planet").facts)) + one.nats()
    )


def test_sampled_text_depends_on_the_generator_alone():
    two = sample_text(np.random.default_rng(3), 2)
    rng = np.random.default_rng(3)
    assert two == sample_text(np.random.default_rng(3), 2) != sample_text(np.random.default_rng(4), 2)
    assert sample_text(rng, 2) != sample_text(rng, 2)


# ---------------------------------------------------------------------------------------------------------------------
# questions


@each_way
def test_a_question_ends_right_before_its_answer(relation, direction):
    asked = questions(relation.name, direction)
    assert {question.fact for question in asked} == set(relation.asked[direction])
    for question in asked:
        assert question.answer[0] == " " != question.answer[1] and question.prompt == question.prompt.rstrip()
        name = question.fact.slots[ASKED[direction]]
        assert question.answer[1:] in (name, name[0].upper() + name[1:])
        assert question.fact.slots[GIVEN[direction]].lower() in question.prompt.lower()
        assert not re.search(r"[{}]", question.prompt)


def test_questions_come_in_one_order_and_each_prompt_once():
    asked = questions()
    assert asked == questions()
    prompts = Counter((q.relation, q.direction, q.prompt) for q in asked)
    assert max(prompts.values()) == 1
    assert asked[0].relation == "landmark-city" and asked[0].direction == "forward" and asked[0].phrasing == "seen"
    some = questions(direction="inverse", phrasing="unseen")
    assert some == [q for q in asked if q.direction == "inverse" and q.phrasing == "unseen"]
    assert questions("moon-planet", "inverse") == []


@each_way
def test_the_answer_is_one_of_its_kind(relation, direction):
    for question in questions(relation.name, direction, "unseen"):
        assert question.fact.slots[ASKED[direction]] in kinds(question)


def test_a_kind_holds_the_things_of_every_relation():
    capital = next(q for q in questions("capital-country", "forward", "unseen") if q.fact.subject == "Paris")
    assert {"France", "Peru", "the Netherlands"} <= kinds(capital) and "Paris" not in kinds(capital)
    ocean = next(q for q in questions("superlative", "forward", "unseen") if q.fact.object == "the Pacific Ocean")
    assert "the Arctic Ocean" in kinds(ocean) and "Mount Everest" not in kinds(ocean)
