"""What an edit does to the codebook, by hand: keys on a line, at 0 and where the test says."""

import pytest
import torch

from editbench import EditRequest
from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.grace import GRACEConfig
from editbench.methods.grace.codebook import Change, Codebook
from editbench.methods.grace.rules import GAP, MARGIN, decide, label_mean
from tests.tiny_models import tiny_lm

AT = Projection.of(tiny_lm(), 1, SECOND)
SAME, OTHER = (5, 6), (7,)


def key(at):
    found = torch.zeros(AT.d_in, dtype=torch.float64)
    found[0], found[1] = 100.0, at
    return found


def decided(at, label, *, prompt="another", rules="sound", radius=1.0, tokens=4, before=(), **settings):
    """The change of an edit at distance ``at`` from the only key, whose radius is 1.5."""
    config = GRACEConfig(radius=radius, rules=rules, **settings)
    book = Codebook(AT, torch.empty(0, dtype=torch.float64))
    for i, request in enumerate([EditRequest("first", "the prompt", None, "x"), *before]):
        book.apply(decide(book, request, key(100.0 * i), 4, SAME, config))
    book.radii[0] = 1.5
    return decide(book, EditRequest("new", prompt, None, "y"), key(at), tokens, label, config)


@pytest.mark.parametrize("rules", ["sound", "published"])
@pytest.mark.parametrize(
    ("at", "label", "event"),
    [(2.6, SAME, "add"), (2.6, OTHER, "add"), (1.4, SAME, "reuse"), (2.4, SAME, "expand"), (1.4, OTHER, "split")],
)
def test_events(at, label, event, rules):
    found = decided(at, label, rules=rules)
    assert (found.event, found.entry) == (event, 1 if event in ("add", "split") else 0)
    assert (found.key is not None) == (event in ("add", "split"))


def test_an_expanded_radius_has_a_margin_unless_as_published():
    assert decided(2.4, SAME).radius == pytest.approx(2.4 * (1 + MARGIN))
    assert decided(2.4, SAME, rules="published").radius == pytest.approx(2.4)
    moved = decided(2.4, SAME, expand="moving_average")
    assert torch.equal(moved.key, key(1.2))


@pytest.mark.parametrize("at", [1.4, 2.4])
def test_a_split_halves_the_distance_and_enlarges_no_radius_unless_as_published(at):
    sound, published = decided(at, OTHER, radius=1.0), decided(at, OTHER, radius=1.0, rules="published")
    half = pytest.approx(at / 2)
    assert (published.radius, published.shrunk) == (half, (0, pytest.approx(at / 2 - GAP)))
    assert sound.radius == pytest.approx(min(1.0, at / 2))
    assert sound.shrunk == (0, pytest.approx(min(1.5, at / 2 - GAP)))
    wide = decided(2.4, OTHER, radius=4.0)  # half of 2.4 is less than both
    assert wide.radius == half if at == 2.4 else wide.radius == pytest.approx(1.2)


def test_the_same_prompt_with_another_answer_replaces():
    assert decided(0.005, OTHER).event == "replace"  # nearer than 1e-4 of the key's norm
    assert decided(5.0, OTHER, prompt="the prompt").event == "replace"
    assert decided(5.0, SAME, prompt="the prompt").event == "expand"
    assert decided(0.005, OTHER, rules="published").event == "split"


def test_a_prompt_leaves_an_entry_that_serves_others_when_its_answer_changes():
    config, book = GRACEConfig(radius=1.0), Codebook(AT, torch.empty(0, dtype=torch.float64))
    for id, prompt, at in (("a", "one", 0.0), ("b", "two", 1.8)):
        book.apply(decide(book, EditRequest(id, prompt, None, "x"), key(at), 4, SAME, config))
    change = decide(book, EditRequest("c", "two", None, "y"), key(1.8), 4, OTHER, config)
    assert change.event == "split" and change.shrunk == (0, pytest.approx(0.9 - GAP))
    undo = book.apply(change)
    assert [list(item.edits) for item in book.items] == [["a"], ["c"]]
    for one in reversed(undo):
        one()
    assert [list(item.edits) for item in book.items] == [["a", "b"]]
    assert decide(book, EditRequest("c", "two", None, "y"), key(0.0), 4, OTHER, config).event == "replace"


def test_answers_are_compared_by_their_tokens_unless_as_published():
    mean = label_mean(4, SAME)
    assert mean == pytest.approx((5 + 6 - 400) / 6)
    assert decided(1.4, (6, 5)).event == "split" and decided(1.4, (6, 5), rules="published").event == "reuse"
    assert decided(1.4, SAME, tokens=5).event == "reuse"
    assert decided(1.4, SAME, tokens=5, rules="published").event == "split"


def test_easyedit_compares_with_the_answer_at_the_other_end():
    last = EditRequest("second", "its prompt", None, "x")
    assert decided(1.4, SAME, rules="easyedit", before=[last]).event == "reuse"
    config = GRACEConfig(rules="easyedit", radius=1.0)
    book = Codebook(AT, torch.empty(0, dtype=torch.float64))
    book.apply(decide(book, EditRequest("1", "p", None, "x"), key(0), 4, SAME, config))
    book.apply(decide(book, EditRequest("2", "q", None, "x"), key(50), 4, OTHER, config))
    request = EditRequest("3", "r", None, "x")
    assert decide(book, request, key(0.5), 4, SAME, config).event == "split"
    assert decide(book, request, key(0.5), 4, OTHER, config).event == "reuse"


def test_the_prompt_at_the_key_leaves_an_entry_that_moves_to_one_of_its_others():
    config, book = GRACEConfig(radius=1.0), Codebook(AT, torch.empty(0, dtype=torch.float64))
    places = {"one": 0.0, "two": 1.8, "three": 1.2}
    for id, prompt in zip("abd", places, strict=True):
        book.take(decide(book, EditRequest(id, prompt, None, "x"), key(places[prompt]), 4, SAME, config))
    assert [list(item.edits) for item in book.items] == [["a", "b", "d"]]
    before = book.keys.clone(), list(book.radii)
    asked = []

    def keys_of(prompts):
        asked.extend(prompts)
        return torch.stack([key(places[prompt]) for prompt in prompts])

    change = decide(book, EditRequest("c", "one", None, "y"), key(0.0), 4, OTHER, config, keys_of=keys_of)
    assert change.event == "split" and asked == ["three", "two"]
    undo = book.take(change)
    assert [list(item.edits) for item in book.items] == [["b", "d"], ["c"]]
    assert torch.equal(book.keys, torch.stack([key(1.2), key(0.0)]))  # the nearest of the others' keys
    assert book.radii == [pytest.approx(0.6 - GAP), pytest.approx(0.6)]
    again = Codebook(AT, torch.empty(0, dtype=torch.float64))
    again.restore(book.state())
    assert torch.equal(again.keys, book.keys)
    for one in reversed(undo):
        one()
    assert torch.equal(book.keys, before[0]) and book.radii == before[1]
    left = Change.of(change.journal_entry()).left
    assert left.key.equal(key(1.2)) and left.prompt == "three"


def test_an_entry_of_the_prompt_alone_that_lies_beyond_its_radius_moves_to_it():
    config, book = GRACEConfig(radius=1.0), Codebook(AT, torch.empty(0, dtype=torch.float64))
    book.take(decide(book, EditRequest("a", "one", None, "x"), key(0.0), 4, SAME, config))
    book.radii[0] = 0.25  # another entry came near
    change = decide(book, EditRequest("b", "one", None, "y"), key(1.8), 4, OTHER, config)
    assert change.event == "replace"
    book.take(change)
    assert torch.equal(book.keys[0], key(1.8)) and list(book.items[0].edits) == ["b"]


def test_an_entry_moves_to_no_prompt_that_another_answers_since():
    """Five edits of three prompts: the last one's entry must not return to "far", whose answer is another's by now."""
    config, book = GRACEConfig(radius=1.0), Codebook(AT, torch.empty(0, dtype=torch.float64))
    places, labels = {"near": 0.0, "far": 0.9, "between": 0.4}, {}

    def keys_of(prompts):
        return torch.stack([key(places[prompt]) for prompt in prompts])

    stream = [("near", SAME), ("far", SAME), ("between", OTHER), ("far", (7,)), ("near", (7,))]
    for number, (prompt, label) in enumerate(stream):
        request = EditRequest(str(number), prompt, None, "x")
        change = decide(book, request, key(places[prompt]), 4, label, config, keys_of=keys_of)
        book.take(change)
        labels[prompt] = label
        for asked in places if number > 2 else ():
            ((at, distance),) = book.nearest(key(places[asked])[None])
            assert distance <= book.radii[at] and book.items[at].label == labels[asked], (number, asked)


def test_the_prompt_at_an_entrys_key_is_known_by_its_text_where_keys_are_rounded():
    config, book = GRACEConfig(radius=1.0), Codebook(AT, torch.empty(0, dtype=torch.float64))
    places = {"one": 0.0, "two": 1.8}
    for id, prompt in zip("ab", places, strict=True):
        book.take(decide(book, EditRequest(id, prompt, None, "x"), key(places[prompt]), 4, SAME, config))
    rounded = key(0.05)  # further from its own than the share by which keys are the same
    change = decide(
        book, EditRequest("c", "one", None, "y"), rounded, 4, OTHER, config, None, lambda some: key(1.8)[None]
    )
    assert change.event == "split" and change.left.prompt == "two" and change.left.key.equal(key(1.8))
    assert change.radius == pytest.approx(1.75 / 2)
    assert decide(book, EditRequest("d", "x", None, "x"), key(1.9), 4, SAME, config, rounding=0.01).radius == (
        pytest.approx(1.9 * 1.001 + 0.01 * float(key(1.9).norm()))
    )
