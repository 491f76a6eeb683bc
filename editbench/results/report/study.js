// A study: runs that differ in one setting, in its order.

const EDITS = "stream.edits";
const PARTS = "parts."; // of a run's provenance: they decide its numbers; a run of schema 1 has none, and is alone
const COUNTED = / \(count\)$/;
const WIDE = 50;
const LABEL_LENGTH = 80;

/** A name without what stands before its last slash. */
const tail = (name) => String(name).split("/").at(-1);

/** A fact as a label has it: with its title if it is no name, and without the owner of a model. */
function fact(name, value) {
  const named = ["model", "dataset", "protocol", "mode"].includes(name);
  return named ? tail(value) : `${columnOf(name).title} ${value}`;
}

/** A run's method with the settings and labels in which it differs from these others, but for some. */
function variant(run, runs, but = []) {
  const differs = (name) => runs.some((other) => (other.cells[name] ?? run.cells[name]) !== run.cells[name]);
  const facts = data.labels.filter((name) => !but.includes(name) && !but.includes(`stream.${name}`))
    .filter((name) => run.cells[name] != null && differs(name))
    .map((name) => fact(name, run.cells[name]));
  const settings = Object.entries(run.settings)
    .filter(([name]) => name.startsWith("method.") && !but.includes(name))
    .map(([name, value]) => `${name.slice("method.".length)} ${value}`).join(" · ");
  const short = settings.length > LABEL_LENGTH ? `${settings.slice(0, LABEL_LENGTH)}…` : settings;
  return [run.cells.method ?? run.cells.run, ...short ? [short] : [], ...facts].join(" · ");
}

/** A run's place in a study of this setting: all else that decides its numbers, but for the seed. */
function place(run, setting) {
  const { run: name, method, hparams, model, dataset, protocol } = run.cells;
  const studied = [`${PARTS}${setting.replace(COUNTED, "")}`];
  if (setting === EDITS) studied.push(`${PARTS}dataset.hash`); // more edits read more of the same file
  const parts = run.provenance.filter(([part]) => part.startsWith(PARTS) && !studied.includes(part)).sort();
  return JSON.stringify(parts.length ? [method, hparams, model, dataset, protocol, ...parts] : [name]);
}

/** The finished runs that have this setting, by line. */
function studyLines(runs, setting) {
  const there = runs.filter((run) => run.cells.status === "done" && Object.hasOwn(run.settings, setting));
  return grouped(there, (run) => place(run, setting));
}

/** Whether a run finished without a collapse; the figures of others are of fewer edits. */
const whole = ({ cells }) => cells.status === "done" && cells.collapsed_at == null;

/** The settings over which at least one line has two points. */
function studySettings(runs) {
  const several = (line, name) => distinct(line.filter(whole).map((run) => run.settings[name])).length > 1;
  return distinct(runs.flatMap((run) => Object.keys(run.settings)))
    .filter((name) => studyLines(runs, name).some((line) => several(line, name)));
}

/** The number of seeds of these runs. */
const seedsOf = (runs) => distinct(runs.map((run) => run.cells.seed)).length;

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** A measure's mean over the seeds that have it, their number, and its 95 % interval if there is one. */
function overSeeds(runs, measure) {
  const final = (run) => run.cells[measure] ?? own(run.final, measure);
  const seeds = grouped(runs.filter((run) => final(run) != null), (run) => run.cells.seed);
  if (!seeds.length) return null;
  const values = seeds.map((same) => mean(same.map(final)));
  const point = { value: mean(values), interval: null, seeds: values.length, of: seedsOf(runs) };
  if (values.length < 2 || seeds.flat().some((run) => !own(run.intervals, measure))) return point;
  const ends = [0, 1].map((side) => mean(seeds.map((same) => mean(same.map((run) => run.intervals[measure][side])))));
  return { ...point, interval: intervalOverSeeds(values, ends, own(data.measures, measure)?.range) };
}

/** `over_seeds` of intervals.py: the uncertainty over records in one run, and the variance between the runs. */
function intervalOverSeeds(values, ends, range) {
  const { quantiles } = data;
  const centre = mean(values);
  const freedom = values.length - 1;
  const between = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / freedom / values.length;
  const found = ends.map((end, side) => {
    const records = ((end - centre) / quantiles[0]) ** 2;
    const t = quantile(quantiles, between / (records + between || 1) / Math.sqrt(freedom));
    return centre + (side ? 1 : -1) * t * Math.sqrt(records + between);
  });
  return range ? found.map((end) => Math.min(Math.max(end, range[0]), range[1])) : found;
}

/** Student's quantile by 1 / √(degrees of freedom), between those of a table with steps of the same size from 0 to 1. */
function quantile(table, inverse) {
  const at = inverse * (table.length - 1);
  const below = Math.min(Math.floor(at), table.length - 2);
  return table[below] + (at - below) * (table[below + 1] - table[below]);
}

/** The points of a line; runs on other data are points of their own. A run that collapsed counts as a missing seed. */
function studyPoints(line, setting, measure) {
  const key = (run) => JSON.stringify([run.settings[setting], new Map(run.provenance).get("dataset.hash")]);
  return grouped(line, key)
    .map((runs) => ({ x: runs[0].settings[setting], ...overSeeds(runs.filter(whole), measure), of: seedsOf(runs) }))
    .filter(({ value }) => value != null)
    .sort((a, b) => compare(a.x, b.x, false));
}

/** The axis of a setting: numbers, on a log scale if they lie far apart; anything else as categories. */
function settingAxis(setting, values) {
  const title = plain(setting);
  const sorted = distinct(values).sort((a, b) => compare(a, b, false));
  if (!sorted.every((value) => typeof value === "number")) {
    return { title, type: "category", categoryorder: "array", categoryarray: sorted.map(plain) };
  }
  return { title, type: sorted[0] > 0 && sorted.at(-1) / sorted[0] >= WIDE ? "log" : "linear" };
}
