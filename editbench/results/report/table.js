// The table of runs: sorting, filtering, and which runs the charts show.

const CHOICES = ["status", "method", "hparams", "model", "dataset"];
const SHOWN_ONCE = ["hparams", "protocol", "mode", "batch_size", "seed", "coverage", ...data.labels];
const IN_NAME = ["method", "status"]; // the first column has them

const columnOf = (wanted) => data.columns.find(({ name }) => name === wanted);

class RunTable {
  /** `changed(groups)` is called with the groups shown whenever they change; `open(run)` when one is chosen. */
  constructor(runs, changed, open) {
    const { columns } = data;
    const penalised = runs.some(({ cells }) => cells.score_penalised !== cells.score);
    const first = penalised ? "score_penalised" : "score"; // few records that suit a method are no reason to be first
    Object.assign(this, { runs, changed, open, sort: { name: first, descending: true } });
    const same = ({ name }) => runs.length > 1 && SHOWN_ONCE.includes(name) && this.values(name).length === 1;
    const empty = ({ name }) => (name === "score_penalised" && !penalised)
      || this.values(name).every((value) => value == null);
    this.columns = columns.filter((column) => !same(column) && !empty(column) && !IN_NAME.includes(column.name));
    this.showOnce(columns.filter((column) => same(column) && !empty(column)));
    this.choices = CHOICES.filter((name) => this.values(name).length > 1).map((name) => this.choice(name));
    byId("filter").addEventListener("input", () => this.draw());
    byId("seeds").addEventListener("change", () => this.draw());
    byId("seeds").parentElement.hidden = groups(runs, false).length === runs.length;
    this.headings = new Map(this.columns.map((column) => [column.name, this.heading(column)]));
    this.body = element("tbody");
    byId("table").append(
      element("caption", { class: "hidden" }, "Runs with their figures after the last edit"),
      element("thead", {}, element("tr", {}, ...this.headings.values())),
      this.body,
    );
    this.draw();
  }

  /** A sentence above the table with the values that are the same in all runs. */
  showOnce(columns) {
    const facts = columns.flatMap(({ name, title }, i) => [i ? ", " : "", `${title} `, isolated(this.values(name)[0])]);
    if (facts.length) byId("common").append("All runs: ", ...facts, ".");
  }

  values(name) {
    return distinct(this.runs.map((run) => run.cells[name]));
  }

  choice(name) {
    const select = element("select", { "data-column": name, onchange: () => this.draw() });
    fill(select, [["", "all"], ...this.values(name).map((value) => [`=${value}`, value ?? "—"])]);
    byId("choices").append(element("label", {}, `${columnOf(name).title} `, select));
    return select;
  }

  heading(column) {
    const button = element("button", { type: "button", onclick: () => this.sortBy(column) }, column.title);
    return element("th", { scope: "col", class: column.digits == null ? null : "figure" }, button);
  }

  sortBy(column) {
    const first = column.digits != null; // figures: the highest first
    const again = this.sort.name === column.name;
    this.sort = { name: column.name, descending: again ? !this.sort.descending : first };
    this.draw();
  }

  shown() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const { name, descending } = this.sort;
    const matching = this.runs
      .filter(({ cells }) => this.choices.every((one) => !one.value || one.value === `=${cells[one.dataset.column]}`))
      .filter(({ cells }) => words.every((word) => Object.values(cells).join("\n").toLowerCase().includes(word)));
    const value = (one) => (name === "run" ? one.name : one.cells[name]);
    return groups(matching, byId("seeds").checked).sort((a, b) => compare(value(a), value(b), descending));
  }

  draw() {
    const shown = this.shown();
    for (const [name, heading] of this.headings) {
      const order = this.sort.descending ? "descending" : "ascending";
      heading.ariaSort = name === this.sort.name ? order : null;
    }
    const none = element("tr", {}, element("td", { colspan: this.columns.length }, "No run matches the filter."));
    const line = (run) => element("tr", {}, ...this.columns.map((column) => this.cell(run, column)));
    this.body.replaceChildren(...(shown.length ? shown.map(line) : [none]));
    const count = shown.flatMap((one) => one.runs).length;
    byId("count").textContent = `${count} of ${this.runs.length} runs`;
    this.changed(shown);
  }

  /** What became of runs that are not done, and why. */
  state({ cells: { status }, reason }) {
    const text = reason ? `${status}: ${reason}` : status;
    return status === "done" ? null : element("span", { class: "reason", title: text }, isolated(text));
  }

  cell(run, { name, digits }) {
    const value = run.cells[name];
    if (name === "run") {
      const folders = run.runs.map(({ cells }) => cells.run).join("\n");
      const open = { type: "button", class: "open", title: folders, onclick: () => this.open(best(run.runs)) };
      return element("th", { scope: "row" }, element("button", open, isolated(run.variant)), this.state(run));
    }
    if (name === "model" && value != null) return element("td", { title: value }, isolated(tail(value)));
    if (digits == null || typeof value === "string") return element("td", {}, isolated(value ?? "—"));
    const ends = own(run.intervals, name);
    const interval = ends && element("span", { class: "interval" }, ` ${bracketed(ends, digits)}`);
    return element("td", { class: "figure" }, figure(value, digits), interval);
  }
}

/** For sorting: numbers by size, texts by alphabet, nothing last in both directions. */
function compare(a, b, descending) {
  if (a == null || b == null) return (a == null) - (b == null);
  const numbers = typeof a === "number" && typeof b === "number";
  const order = numbers ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return descending ? -order : order;
}
