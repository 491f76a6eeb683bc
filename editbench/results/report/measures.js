// Measures: which there are, one by one and several together, and their values.

const HEADLINES = ["reliability", "generality", "locality"];
const MEASURES = ["score", ...HEADLINES];
const TOGETHER = "Together";
/** What was asked, as readers say it, in the order of charts; other kinds come last, under their own names. */
const ASKED = {
  rewrite: "edits", paraphrase: "paraphrases", locality: "locality", subject_fact: "other facts",
  unrelated: "unrelated",
};

/** An object's own value of this name; names come from the data. */
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** What charts can draw: { heading, title, axis, parts: [[measure, its name there], …] }. A measure: "kind.metric". */
function views(names) {
  const view = (heading, title, axis, ...parts) => ({ heading, title, axis, parts });
  const ranks = [...Object.keys(ASKED), ...names.map((name) => name.split(".", 1)[0])];
  const sorted = names.filter((name) => name.includes("."))
    .map((name) => ({ name, kind: name.split(".", 1)[0], metric: name.slice(name.indexOf(".") + 1) }))
    .sort((a, b) => ranks.indexOf(a.kind) - ranks.indexOf(b.kind));
  const together = distinct(sorted.map((one) => one.metric))
    .map((metric) => [metric, sorted.filter((one) => one.metric === metric)])
    .filter(([, same]) => same.length > 1)
    .map(([metric, same]) => [metric, same.map(({ name, kind }) => [name, own(ASKED, kind) ?? kind])]);
  return [
    ...MEASURES.map((name) => view("Headline", name, name, [name, name])),
    view(TOGETHER, HEADLINES.join(", "), "", ...HEADLINES.map((name) => [name, name])),
    ...together.map(([metric, parts]) => {
      return view(TOGETHER, `${metric}: ${parts.map(([, kind]) => kind).join(", ")}`, metric, ...parts);
    }),
    ...sorted.map(({ name, kind }) => view(kind, name, name, [name, name])),
  ];
}

/** Fill a select with views, under their headings; its value is a view's index. */
function fillViews(select, views) {
  const groups = distinct(views.map(({ heading }) => heading)).map((heading) => {
    const members = views.map((view, i) => [i, view]).filter(([, view]) => view.heading === heading);
    const options = members.map(([value, { title }]) => element("option", { value }, title));
    return element("optgroup", { label: heading }, ...options);
  });
  select.replaceChildren(...groups);
}

/** Whether a measure's numbers lie in [0, 1]. */
function isShare(run, name) {
  return MEASURES.includes(name) || run.shares.includes(name) || run.shares.includes(name.slice(name.indexOf(".") + 1));
}

/** An interval as text. */
function bracketed(ends, digits) {
  return `[${ends.map((end) => figure(end, digits)).join(", ")}]`;
}

/** For plotly: how far a value's interval reaches up and down; nothing where it has none. */
function errorBars(values, intervals, style) {
  const reach = (side) => values.map((value, i) => (intervals[i] ? Math.abs(intervals[i][side] - value) : 0));
  return { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), ...style };
}

/** The harmonic mean, 0 where a value is; null where one is missing. */
function harmonic(values) {
  if (values.some((value) => value == null)) return null;
  return values.length / values.reduce((sum, value) => sum + 1 / value, 0);
}

/** A measure's values along a run's curve; the headline measures are those of its protocol. */
function series(run, curve, measure) {
  if (measure !== "score") return own(curve, own(run.headline, measure) ?? measure) ?? [];
  const three = HEADLINES.map((name) => series(run, curve, name));
  return curve.edits.map((_, i) => harmonic(three.map((one) => one[i])));
}

/** A measure's matrix in a heat map. */
function grid(heat, measure) {
  if (measure !== "score") return heat[measure];
  return heat.n.map((line, y) => line.map((_, x) => harmonic(HEADLINES.map((name) => heat[name][y][x]))));
}

/** The axis of a view: perplexities on a log scale, shares from 0 to 1, and what is no share as it comes. */
function valueAxis({ axis, parts }, traces) {
  const title = plain(axis);
  if (parts.every(([name]) => /(^|\.)perplexity/.test(name))) return { title, type: "log" };
  const share = ([name]) => !/^(drift|footprint|ability)\./.test(name); // a correlation may be negative
  const within = traces.flatMap(({ y }) => y).every((value) => value == null || (value >= 0 && value <= 1));
  return parts.every(share) && within ? { title, range: [-0.03, 1.03] } : { title, rangemode: "tozero" };
}
