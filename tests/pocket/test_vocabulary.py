"""The words of the world: what every relation must have so that no probe has two answers."""

from editbench.pocket import vocabulary


def test_relations_have_their_statements_questions_and_objects():
    relations = [relation for several in vocabulary.RELATIONS.values() for relation in several]
    assert set(vocabulary.RELATIONS) == set(vocabulary.FIRST_WORDS) == {"person", "company", "place"}
    for relation in relations:
        assert len(set(relation.statements)) == 6 and len(set(relation.questions)) == 3
        assert all(text.count("{}") == 1 for text in (*relation.statements, *relation.questions))
        assert all(question.endswith("?") for question in relation.questions)
    objects = [name for relation in relations for name in relation.objects]
    assert len(set(objects)) == len(objects) and all(objects)
    assert len({relation.id for relation in relations}) == len(relations)


def test_parts_of_names_and_sentences():
    for parts in (vocabulary.ONSETS, vocabulary.MIDDLES, vocabulary.ENDINGS, *vocabulary.FIRST_WORDS.values()):
        assert len(set(parts)) == len(parts) >= 10 and all(part.isalpha() for part in parts)
    assert all("{}" in text for text in (*vocabulary.REMARKS, vocabulary.PASSAGE, *vocabulary.QUESTION_FORMS))
    assert not any("{" in text for text in vocabulary.FILLERS)
