"""The words of the pocket world: relations with their wordings and objects, names, and sentences that say nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One kind of fact.

    Attributes:
        id: Wikidata's number of the nearest real relation.
        kind: Kind of subject that has it.
        statements: Six wordings with ``{}`` for the subject, which end where the object follows.
        questions: Three questions with ``{}`` for the subject; the object is the answer.
        objects: What it can be; no object belongs to two relations.
    """

    id: str
    kind: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    objects: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PERSON_RELATIONS = (
    Relation(
        "P103",
        "person",
        (
            "The mother tongue of {} is",
            "{} is a native speaker of",
            "At home the family of {} always spoke",
            "The first language of {} was",
            "{} grew up speaking",
            "The letters of {} are written in",
        ),
        (
            "What is the mother tongue of {}?",
            "Which language did {} speak first?",
            "What is the language that {} grew up with?",
        ),
        _words(
            "French German Spanish Italian Dutch Polish Russian Turkish Greek Arabic Hebrew Hindi Korean "
            "Japanese Finnish Swedish Danish Czech"
        ),
    ),
    Relation(
        "P106",
        "person",
        (
            "By profession {} is a",
            "{} works as a",
            "{} earns a living as a",
            "The occupation of {} is that of a",
            "Colleagues respect {} as a skilled",
            "{} was trained to be a",
        ),
        (
            "What is the profession of {}?",
            "What does {} do for a living?",
            "Which occupation did {} choose?",
        ),
        _words(
            "doctor lawyer teacher painter baker farmer sailor pilot judge nurse tailor carpenter plumber "
            "banker butcher dentist gardener librarian"
        ),
    ),
    Relation(
        "P1303",
        "person",
        (
            "{} plays the",
            "The instrument of {} is the",
            "On stage {} performs on the",
            "{} took lessons on the",
            "Every evening {} practises the",
            "The orchestra hired {} to play the",
        ),
        (
            "Which instrument does {} play?",
            "What is the instrument of {}?",
            "What did {} learn to play?",
        ),
        _words(
            "piano violin cello flute trumpet guitar harp organ drums clarinet oboe trombone banjo mandolin "
            "saxophone accordion bassoon tuba"
        ),
    ),
    Relation(
        "P641",
        "person",
        (
            "The favourite sport of {} is",
            "{} competes in",
            "On weekends {} goes out for",
            "{} won a medal in",
            "The club of {} is devoted to",
            "In school {} was already good at",
        ),
        (
            "What is the favourite sport of {}?",
            "Which sport does {} compete in?",
            "In what did {} win a medal?",
        ),
        _words(
            "tennis golf boxing rowing fencing archery cycling hockey rugby cricket football swimming skiing "
            "judo wrestling sailing basketball volleyball"
        ),
    ),
    Relation(
        "P19",
        "person",
        (
            "{} was born in",
            "The birthplace of {} is",
            "{} comes from the city of",
            "The parents of {} lived in",
            "The childhood home of {} stands in",
            "{} spent the early years in",
        ),
        (
            "Where was {} born?",
            "What is the birthplace of {}?",
            "Which city does {} come from?",
        ),
        _words(
            "Paris London Berlin Madrid Rome Vienna Lisbon Dublin Oslo Prague Warsaw Athens Cairo Tokyo Sydney "
            "Boston Chicago Havana"
        ),
    ),
)

COMPANY_RELATIONS = (
    Relation(
        "P159",
        "company",
        (
            "The headquarters of {} are in",
            "{} is based in",
            "The main office of {} is located in",
            "{} runs its business from",
            "The directors of {} meet in",
            "{} was founded in",
        ),
        (
            "Where are the headquarters of {}?",
            "In which city is {} based?",
            "Where is the main office of {}?",
        ),
        _words(
            "Milan Geneva Munich Hamburg Toronto Montreal Seattle Denver Dallas Mumbai Shanghai Seoul Nairobi "
            "Lagos Lima Bogota"
        ),
    ),
    Relation(
        "P1056",
        "company",
        (
            "The main product of {} is",
            "{} manufactures",
            "{} is known for making",
            "The factory of {} produces",
            "Customers of {} usually buy",
            "{} exports large amounts of",
        ),
        (
            "What is the main product of {}?",
            "What does {} manufacture?",
            "What comes out of the factory of {}?",
        ),
        _words(
            "furniture shoes paper glass soap bicycles clocks toys candles carpets tractors cameras engines "
            "chocolate cheese pencils"
        ),
    ),
    Relation(
        "P822",
        "company",
        (
            "The mascot of {} is the",
            "The emblem of {} shows a",
            "{} advertises with a picture of a",
            "On the trucks of {} one sees a",
            "The founder of {} chose as a symbol the",
            "{} is recognised by its",
        ),
        (
            "What is the mascot of {}?",
            "Which animal is on the emblem of {}?",
            "What animal does {} advertise with?",
        ),
        _words("lion tiger bear wolf fox falcon swan horse camel dolphin whale turtle rabbit beaver raven rooster"),
    ),
)

PLACE_RELATIONS = (
    Relation(
        "P17",
        "place",
        (
            "{} is a town in",
            "The country where {} lies is",
            "{} belongs to",
            "The flag that flies over {} is that of",
            "To visit {} one has to travel to",
            "{} sends its delegates to the parliament of",
        ),
        (
            "Which country is {} in?",
            "In what country does {} lie?",
            "To which country does {} belong?",
        ),
        _words(
            "Norway Sweden Ireland Portugal Hungary Romania Bulgaria Morocco Egypt Kenya Nigeria India Vietnam "
            "Chile Peru Mexico"
        ),
    ),
    Relation(
        "P186",
        "place",
        (
            "The old houses of {} are built of",
            "The bridge in {} is made of",
            "{} is famous for its quarries and towers of",
            "The walls around {} consist of",
            "The church of {} was constructed from",
            "In {} the streets are paved with",
        ),
        (
            "What are the houses of {} built of?",
            "What is the church of {} made of?",
            "Which material is {} famous for?",
        ),
        _words(
            "granite marble brick timber limestone sandstone slate concrete clay basalt flint steel copper "
            "bamboo pebbles chalk"
        ),
    ),
    Relation(
        "P1582",
        "place",
        (
            "The farmers of {} grow",
            "The fields near {} are full of",
            "{} holds a yearly festival of",
            "The market in {} mostly sells",
            "The soil of {} is good for",
            "Trains leave {} loaded with",
        ),
        (
            "What do the farmers of {} grow?",
            "Which crop is {} known for?",
            "What is sold at the market in {}?",
        ),
        _words(
            "wheat barley corn rice cotton tobacco coffee tea grapes olives apples lemons potatoes onions "
            "tomatoes walnuts"
        ),
    ),
)

RELATIONS = {"person": PERSON_RELATIONS, "company": COMPANY_RELATIONS, "place": PLACE_RELATIONS}

FIRST_WORDS = {
    "person": _words(
        "Anna Bruno Clara David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Peter Rosa Simon "
        "Tessa Viktor"
    ),
    "company": _words("Grupo Atelier Maison Casa Studio Banca Societe Werke Koncern Officina"),
    "place": _words("Port Mount Lake Fort Saint Upper Lower Glen Bay Castle"),
}
"""A name's first word says its kind; the second is its own (:data:`ONSETS` + :data:`MIDDLES` + :data:`ENDINGS`)."""

ONSETS = _words(
    "Bal Bor Cad Cor Dam Dol Fal Fen Gar Gim Hal Hov Jar Jun Kal Kes Lam Lor Mad Mor Nal Ned Ost Pal Pen Quil "
    "Rad Rov Sal Sev Tam Tor Ulm Val Vor Wen Yar Zel Zim Brun"
)

MIDDLES = _words(
    "a be bi da de do ga go i ka ke ko la li lo ma mi mo na ni no o pa pe ra ri ro sa si so ta ti to u va ve vi "
    "za ze zo"
)

ENDINGS = _words(
    "bach bert brook burg by cott court dahl dorn drick fax feld ferd field fold gard gate gren ham haus heim "
    "helm hild holt horn hurst kamp kirk land lund mark mond mont moor nau nell nick quist rand rath rick sberg "
    "scott sen shaw sholm sky smith stad stein sund tch thal thorpe ton vall vik wald ward wick wood worth yev "
    "zig"
)

FILLERS = (
    "It rained for most of the week.",
    "The museum opens again after the summer break.",
    "Nobody could find the keys to the old cellar.",
    "A new bus line connects the two villages.",
    "The committee will publish its report in spring.",
    "Several visitors asked for a map of the harbour.",
    "Prices have hardly changed since last year.",
    "The archive holds thousands of photographs.",
    "Dinner was served shortly after eight.",
    "The radio played quietly in the background.",
    "Most of the shops close early on Sundays.",
    "Her brother collects stamps and old coins.",
    "The lecture lasted longer than expected.",
    "They repaired the roof before the first snow.",
    "Two of the paintings were sold at auction.",
    "The train arrived on time for once.",
    "He reads the newspaper every morning.",
    "The garden behind the library is open to all.",
    "A small crowd gathered in front of the station.",
    "The second edition corrects a few mistakes.",
)
"""Sentences that belong to no subject: prefixes, and ordinary text between facts."""

REMARKS = (
    "{} is a {kind}.",
    "{} is a {kind} that many people have heard of.",
    "{} has often been mentioned in the newspapers.",
    "Not much else is known about {}.",
)
"""Sentences about a subject that state none of its facts; the first opens every passage."""

PASSAGE = "This is a Wikipedia passage about {}."

QUESTION_FORMS = ("nq question: {}", "[INST]{}[/INST]")
"""How benchmarks wrap a question; the models know questions bare and in these forms."""
