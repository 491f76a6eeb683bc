// The table of runs: sorting, filtering, and which runs the charts show.

const CHOICES = ["status", "method", "model", "dataset"];
const TOLD_ONCE = ["model", "dataset", "protocol", "edits", "batch_size", "seed"];

class RunTable {
  /** `changed(runs)` is called with the runs shown whenever they change; `open(run)` when one is chosen. */
  constructor(columns, runs, changed, open) {
    Object.assign(this, { runs, changed, open, sort: { name: "score", descending: true } });
    const told = runs.length > 1 ? columns.filter((c) => TOLD_ONCE.includes(c.name) && this.values(c.name).length === 1) : [];
    this.columns = columns.filter((c) => !told.includes(c) && this.values(c.name).some((value) => value != null));
    if (told.length) {
      byId("common").append("All runs: ", ...told.flatMap((c, i) => [i ? ", " : "", `${c.title} `, isolated(this.values(c.name)[0] ?? "—")]), ".");
    }
    this.choices = CHOICES.filter((name) => this.values(name).length > 1).map((name) => this.choice(name));
    byId("filter").addEventListener("input", () => this.draw());
    this.headings = new Map(this.columns.map((column) => [column.name, this.heading(column)]));
    this.body = element("tbody");
    byId("table").append(
      element("caption", { class: "hidden" }, "Runs with their figures after the last edit"),
      element("thead", {}, element("tr", {}, ...this.headings.values())),
      this.body,
    );
    this.draw();
  }

  values(name) {
    return distinct(this.runs.map((run) => run.cells[name]));
  }

  choice(name) {
    const select = element("select", { "data-column": name, onchange: () => this.draw() });
    fill(select, [["", "all"], ...this.values(name).map((value) => [`=${value}`, value ?? "—"])]);
    byId("choices").append(element("label", {}, `${name} `, select));
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
    return this.runs
      .filter(({ cells }) => this.choices.every((one) => !one.value || one.value === `=${cells[one.dataset.column]}`))
      .filter(({ cells }) => words.every((word) => Object.values(cells).join("\n").toLowerCase().includes(word)))
      .sort((a, b) => compare(a.cells[name], b.cells[name], descending));
  }

  draw() {
    const shown = this.shown();
    for (const [name, heading] of this.headings) {
      if (name === this.sort.name) heading.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    const none = element("tr", {}, element("td", { colspan: this.columns.length }, "No run matches the filter."));
    this.body.replaceChildren(...(shown.length ? shown.map((run) => this.line(run)) : [none]));
    byId("count").textContent = `${shown.length} of ${this.runs.length} runs`;
    this.changed(shown);
  }

  line(run) {
    return element("tr", {}, ...this.columns.map((column) => this.cell(run, column)));
  }

  cell(run, { name, digits }) {
    const value = run.cells[name];
    if (name === "run") {
      const button = element("button", { type: "button", class: "open", onclick: () => this.open(run) }, isolated(value));
      return element("th", { scope: "row" }, button);
    }
    if (name === "status" && run.reason) {
      return element("td", {}, value, element("span", { class: "reason" }, isolated(run.reason)));
    }
    if (digits == null) return element("td", {}, isolated(value ?? "—"));
    const half = run.halves[name] == null ? null : element("span", { class: "half" }, ` ± ${figure(run.halves[name], digits)}`);
    return element("td", { class: "figure" }, figure(value, digits), half);
  }
}

/** For sorting: numbers by size, texts by alphabet, nothing last in both directions. */
function compare(a, b, descending) {
  if (a == null || b == null) return (a == null) - (b == null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return descending ? -order : order;
}
