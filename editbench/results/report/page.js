// The start: reads the data and puts the parts together.

const runs = data.runs;

// The runs' variants, which decide their colours, and their names in charts and selects.
for (const run of runs) Object.assign(run, { variant: variant(run, runs, data.labels), label: variant(run, runs) });
const twins = grouped(runs, (run) => run.label).filter((same) => same.length > 1);
for (const run of twins.flat()) run.label += ` · ${run.cells.run}`;

function provenance(run) {
  const fact = ([name, value]) => [element("dt", {}, isolated(name)), element("dd", {}, isolated(value))];
  const known = run.provenance.flatMap(fact);
  const facts = known.length ? element("dl", {}, ...known) : element("p", {}, "Not known.");
  const config = run.config && element("pre", { tabindex: "0", "aria-label": "Config" }, run.config);
  return element("details", {}, element("summary", {}, isolated(run.cells.run)), facts, config);
}

const count = `${runs.length} ${runs.length === 1 ? "run" : "runs"}`;
byId("about").textContent = `${count}, written ${data.written}. Everything is in this file; it works offline.`;
byId("provenance-list").append(...runs.map(provenance));

const charts = new Charts(runs);
const browser = new RecordBrowser(runs, data.records);
const names = runs.map((run, index) => [index, run.label]);
const measures = (part) => distinct(runs.flatMap((run) => Object.keys(part(run))));
const curveViews = views(distinct(["immediate", "interim"].flatMap((when) => measures((run) => run.curves[when]))));
const studyViews = views(measures((run) => run.final));
const settings = studySettings(runs);
const opened = runs.indexOf(best(runs));
let shown = []; // groups
let ready = false; // plotly is behind this script, so that the table need not wait for it

function drawCurves() {
  const view = curveViews[byId("curves-measure").value];
  const has = ([index]) => Object.values(runs[index].curves)
    .some((curve) => view.parts.some(([measure]) => series(runs[index], curve, measure).length));
  fill(byId("curves-run"), names.some(has) ? names.filter(has) : names);
  byId("curves-run").parentElement.hidden = view.parts.length === 1;
  if (ready) charts.curves(shown, view, runs[byId("curves-run").value]);
}
function drawStudy() {
  if (!ready || !settings.length) return;
  const each = shown.flatMap((one) => one.runs);
  charts.study(each, settings[byId("study-setting").value], studyViews[byId("study-measure").value]);
}
const drawTradeoff = () => ready && charts.tradeoff(shown, ...["across", "up", "size"].map((part) => byId(`tradeoff-${part}`).value));
const drawHeat = () => ready && charts.heat(runs[byId("ages-run").value], byId("ages-measure").value);
const shifted = names.filter(([index]) => runs[index].shift);
const drawShift = () => ready && shifted.length && charts.shift(runs[byId("shift-run").value]);
const DRAWN = { curves: drawCurves, study: drawStudy, tradeoff: drawTradeoff, ages: drawHeat, shift: drawShift }; // by section
const drawAll = () => Object.values(DRAWN).forEach((draw) => draw());

function openRun(run) {
  browser.open(run);
  for (const id of ["ages-run", "curves-run"]) byId(id).value = runs.indexOf(run);
  drawHeat();
  drawCurves();
  byId("records").scrollIntoView();
  byId("records-run").focus({ preventScroll: true });
}

const choices = (views) => views.map(({ title, heading }, index) => [index, title, heading]);
fill(byId("curves-measure"), choices(curveViews));
fill(byId("curves-run"), names);
fill(byId("study-setting"), settings.map((name, index) => [index, name]));
fill(byId("study-measure"), choices(studyViews));
byId("study-measure").value = studyViews.findIndex(({ heading }) => heading === TOGETHER);
for (const one of document.querySelectorAll("#study, [href='#study']")) one.hidden = !settings.length;
const titled = (columns) => columns.map((name) => [name, columnOf(name).title]);
for (const part of ["across", "up"]) fill(byId(`tradeoff-${part}`), titled([...MEASURES, ...COSTS]));
byId("tradeoff-across").value = "locality";
byId("tradeoff-up").value = "reliability";
fill(byId("tradeoff-size"), titled(COSTS));
fill(byId("ages-measure"), MEASURES.map((name) => [name, name]));
fill(byId("ages-run"), names);
for (const id of ["curves-run", "ages-run"]) byId(id).value = opened;
browser.open(runs[opened]);
fill(byId("shift-run"), shifted);
if (runs[opened].shift) byId("shift-run").value = opened;
for (const one of document.querySelectorAll("#shift, [href='#shift']")) one.hidden = !shifted.length;
for (const [id, draw] of Object.entries(DRAWN)) byId(id).addEventListener("change", draw);
for (const query of [DARK, NARROW]) matchMedia(query).addEventListener("change", drawAll);

new RunTable(runs, (now) => { shown = now; drawCurves(); drawStudy(); drawTradeoff(); }, openRun);
document.addEventListener("DOMContentLoaded", () => { ready = true; drawAll(); });
