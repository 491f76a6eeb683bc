"""Records, texts and editors that the tests of evaluation share."""

from contextlib import contextmanager

from editbench.evaluation.unedited import ask_unedited
from editbench.model.generation import Generation
from editbench.records import LOCALITY, PARAPHRASE, SUBJECT_FACT, EditRecord, EditRequest, Passage, Probe, Route

GREEDY = Generation()


def record(name="r1", subject="Danielle Darrieux", target="English", true="French"):
    request = EditRequest(name, f"The mother tongue of {subject} is", subject, target, target_true=true)
    probes = (
        Probe(PARAPHRASE, f"Which language does {subject} speak?"),
        Probe(PARAPHRASE, f"{subject}, a native speaker of"),
        Probe(LOCALITY, "The mother tongue of Marcel Maupoil is", true),
        Probe(LOCALITY, "Apple A5 is produced by", "Apple"),
        Probe(LOCALITY, "Lyon is in"),
        Probe(SUBJECT_FACT, f"{subject} lives in", "Paris"),
    )
    return EditRecord(request, probes)


RECORDS = [record(), record("r2", "Edwin of Northumbria", "Italian and Russian", "Polish")]
PASSAGES = {
    "plain": (Passage("", "Toko Yasuda plays the guitar."), Passage("", "Google works with Microsoft in London.")),
    "accurate": (Passage("Marcel Maupoil lives in Paris.", "He is a native French speaker."),),
}


def unedited_of(lm, folder=None, records=RECORDS, fingerprint="weights", generation=GREEDY, **options):
    return ask_unedited(
        lm, records, PASSAGES, model_fingerprint=fingerprint, generation=generation, cache=folder, **options
    )


class Bystander:
    """An editor that changes nothing, and records the columns that it is given."""

    def __init__(self):
        self.columns = []

    def asked(self, prompt):
        return prompt

    answers_by_row = True

    @contextmanager
    def answering(self, last_prompt_columns):
        self.columns.append(list(last_prompt_columns))
        yield


class PromptEditor(Bystander):
    """An in-context editor: the same sentence stands before every prompt."""

    FRONT = "Paris is in Spain. "

    def asked(self, prompt):
        return self.FRONT + prompt

    def for_texts(self):
        return self

    def route(self, prompts):
        assert not any(prompt.startswith(self.FRONT) for prompt in prompts)  # as they are asked of it
        return [Route(None, 0.5)] * len(prompts)
