// Browser of records: prompts, and the model's answers before and after.

const LISTED = 200;
const KEPT = ["locality", "subject_fact", "unrelated"]; // kinds whose answers should stay
const KINDS = {
  "all records": () => true,
  "edit does not hold at the end": ({ end }) => end[0] != null && end[0] < 1,
  "other answers changed": ({ probes }) => probes.some((probe) => damaged(probe, probe.end)),
  "not scored": ({ status }) => status !== "scored",
};

/** The arrays of the page's data, by name. */
function readRecord([position, id, status, reason, after, end, probes], texts) {
  const text = (index) => (index < 0 ? null : texts[index]);
  const named = ([kind, prompt, target, before, answer, right, last, lastRight]) => ({
    kind: text(kind), prompt: text(prompt), target: text(target), before: text(before),
    after: { answer: text(answer), right }, end: { answer: text(last), right: lastRight },
  });
  return { position, id: text(id), status: text(status), reason: text(reason), after, end, probes: probes.map(named) };
}

class RecordBrowser {
  constructor(runs, { texts, stride, runs: shown }) {
    Object.assign(this, { runs, stride, chosen: null });
    this.records = shown.map(({ rows }) => rows.map((row) => readRecord(row, texts)));
    this.totals = shown.map(({ total }) => total);
    fill(byId("records-run"), runs.map((run, index) => [index, run.label]));
    fill(byId("records-kind"), Object.keys(KINDS).map((kind) => [kind, kind]));
    for (const id of ["records-run", "records-kind"]) byId(id).addEventListener("change", () => this.draw());
    byId("records-filter").addEventListener("input", () => this.draw());
    byId("records-list").addEventListener("keydown", (event) => this.step(event));
    this.draw();
  }

  open(run) {
    byId("records-run").value = this.runs.indexOf(run);
    this.draw();
  }

  matching(records) {
    const words = byId("records-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    return records.filter(KINDS[byId("records-kind").value]).filter((record) => {
      const texts = record.probes.flatMap((p) => [p.prompt, p.target, p.before, p.after.answer, p.end.answer]);
      return words.every((word) => [record.id, ...texts].join("\n").toLowerCase().includes(word));
    });
  }

  draw() {
    const index = Number(byId("records-run").value);
    const records = this.records[index] ?? [];
    const matching = this.matching(records);
    const more = matching.length > LISTED ? `, the first ${LISTED} listed` : "";
    byId("records-note").textContent = this.note(index, records.length);
    byId("records-count").textContent = `${matching.length} of ${records.length} records${more}`;
    this.listed = matching.slice(0, LISTED);
    this.buttons = this.listed.map((record) => this.button(record));
    byId("records-list").replaceChildren(...this.buttons.map((button) => element("li", {}, button)));
    this.choose(this.listed.find((record) => record.id === this.chosen) ?? this.listed[0]);
  }

  note(index, shown) {
    const total = this.totals[index];
    if (!total) return "This run has no scored records.";
    if (shown === total) return `All ${total} records of this run.`;
    const where = `the rest is in scores.jsonl of the run's folder, ${this.runs[index].cells.run}`;
    return `${shown} of ${total} records, one in ${this.stride}, to keep this file small; ${where}.`;
  }

  button(record) {
    const rates = record.end.some((value) => value != null) ? record.end : record.after;
    const figures = HEADLINES.map((name, i) => `${name.slice(0, 3)} ${figure(rates[i], 2)}`).join(" · ");
    const small = element("small", {}, record.status === "scored" ? figures : record.status);
    const edit = record.probes.find(({ kind }) => kind === "rewrite");
    const name = edit ? `${edit.prompt} → ${edit.target ?? "—"}` : record.id;
    const choose = { type: "button", onclick: () => this.choose(record) };
    return element("button", choose, `${record.position + 1}. `, isolated(name), small);
  }

  choose(record) {
    this.buttons.forEach((button, i) => { button.ariaCurrent = this.listed[i] === record ? "true" : null; });
    this.chosen = record?.id ?? this.chosen;
    byId("record").replaceChildren(...(record ? details(record) : [quiet("No record matches.")]));
  }

  /** Arrow keys move through the list. */
  step(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = this.buttons[this.buttons.indexOf(document.activeElement) + move];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  }
}

/** Whether an answer that should stay differs from the one before editing: an edit's own answers should change. */
const damaged = ({ kind, before }, { answer }) => KEPT.includes(kind)
  && before != null && answer != null && before !== answer;

/** Whether an answer is as it should be: the target, but for kinds whose target should not come. */
const wanted = ({ kind }, { right }) => (data.returns.includes(kind) ? !right : Boolean(right));

const quiet = (text) => element("p", { class: "quiet" }, text);

function details(record) {
  const { position, id, status, reason, after, end, probes } = record;
  const rates = HEADLINES.map((name, i) => `${name} ${figure(after[i], 2)} → ${figure(end[i], 2)}`).join(", ");
  const headings = ["kind", "prompt", "target", "before editing", "right after", "at the end"];
  const lines = probes.map((probe) => {
    const texts = [probe.kind, probe.prompt, probe.target, probe.before].map((text) => [isolated(text ?? "—")]);
    const cells = [...texts, answer(probe, probe.after), answer(probe, probe.end)];
    return element("tr", {}, ...cells.map((content) => element("td", {}, ...content)));
  });
  const table = element("table", {},
    element("caption", { class: "hidden" }, "Prompts and answers"),
    element("thead", {}, element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...lines));
  return [
    element("h3", {}, `Edit ${position + 1}, record `, isolated(id)),
    status === "scored"
      ? quiet(rates)
      : element("p", { class: "bad" }, `${status}: `, isolated(reason ?? "no reason given")),
    probes.length ? table : quiet("No prompts were kept."),
  ];
}

/** An answer with a tick if it is as wanted. */
function answer(probe, given) {
  if (given.answer == null) return ["—"];
  const [look, sign, words] = wanted(probe, given) ? ["good", " ✓", ", as wanted"] : ["bad", " ✗", ", not as wanted"];
  const mark = [element("span", { class: look, "aria-hidden": "true" }, sign), element("span", { class: "hidden" }, words)];
  const change = damaged(probe, given) ? element("span", { class: "bad" }, " changed") : null;
  return [isolated(given.answer), ...(given.right < 0 ? [] : mark), change];
}
