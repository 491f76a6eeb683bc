// The start: reads the data and puts the parts together.

const data = JSON.parse(byId("data").textContent);
const runs = data.runs;

/** A run's label: its method, and the facts in which it differs from others. */
function label(runs) {
  const telling = ["model", "dataset", "protocol", "edits", "batch_size", "seed"]
    .filter((name) => distinct(runs.map((run) => run.cells[name])).length > 1);
  for (const run of runs) {
    const facts = telling.filter((name) => run.cells[name] != null)
      .map((name) => (typeof run.cells[name] === "number" ? `${name.replace("_", " ")} ` : "") + run.cells[name]);
    run.label = [run.cells.method ?? run.cells.run, ...facts].join(" · ");
  }
  for (const run of runs) {
    if (runs.filter((other) => other.label === run.label).length > 1) run.twins = true;
  }
  for (const run of runs) if (run.twins) run.label += ` · ${run.cells.run}`;
}

function provenance(run) {
  const fact = ([name, value]) => [element("dt", {}, isolated(name)), element("dd", {}, isolated(value))];
  const known = run.provenance.flatMap(fact);
  const facts = known.length ? element("dl", {}, ...known) : element("p", {}, "Not known.");
  const config = run.config && element("pre", { tabindex: "0", "aria-label": "Config" }, run.config);
  return element("details", {}, element("summary", {}, isolated(run.cells.run)), facts, config);
}

label(runs);
const count = `${runs.length} ${runs.length === 1 ? "run" : "runs"}`;
byId("about").textContent = `${count}, written ${data.written}. Everything is in this file; it works offline.`;
byId("provenance-list").append(...runs.map(provenance));

const charts = new Charts(runs);
const browser = new RecordBrowser(runs, data.records);
let shown = runs;
let ready = false; // plotly stands behind this script, so that the table need not wait for it

const drawCurves = () => ready && charts.curves(shown, byId("curves-measure").value);
const drawTradeoff = () => ready && charts.tradeoff(shown, byId("tradeoff-size").value);
const drawHeat = () => ready && charts.heat(runs[byId("ages-run").value], byId("ages-measure").value);
const drawAll = () => [drawCurves, drawTradeoff, drawHeat].forEach((draw) => draw());

function openRun(run) {
  browser.open(run);
  byId("ages-run").value = runs.indexOf(run);
  drawHeat();
  byId("records").scrollIntoView();
  byId("records-run").focus({ preventScroll: true });
}

const abilities = runs.flatMap((run) => Object.keys(run.curves.checkpoints)).filter((name) => name.startsWith("ability."));
fill(byId("curves-measure"), [...MEASURES, "perplexity", ...distinct(abilities)].map((name) => [name, name]));
fill(byId("tradeoff-size"), SIZES);
fill(byId("ages-measure"), MEASURES.map((name) => [name, name]));
fill(byId("ages-run"), runs.map((run, index) => [index, run.label]));
byId("curves-measure").addEventListener("change", drawCurves);
byId("tradeoff-size").addEventListener("change", drawTradeoff);
for (const id of ["ages-run", "ages-measure"]) byId(id).addEventListener("change", drawHeat);
for (const query of [DARK, NARROW]) matchMedia(query).addEventListener("change", drawAll);

new RunTable(data.columns, runs, (now) => { shown = now; drawCurves(); drawTradeoff(); }, openRun);
document.addEventListener("DOMContentLoaded", () => { ready = true; drawAll(); });
