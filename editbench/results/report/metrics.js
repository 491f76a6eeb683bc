// Measures: the choices of charts, one measure or several together, their values and axes.

const HEADLINES = data.headlines;
const MEASURES = ["score", ...HEADLINES];
const TOGETHER = "Together";
const NARROWEST = 0.1; // of an axis of shares: smaller differences need no picture

/** An object's own value of this name; names come from the data. */
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** Choices of a chart: { heading, title, axis, parts: [[measure, its name in the chart], …] }. */
function views(names) {
  const view = (heading, title, axis, ...parts) => ({ heading, title, axis, parts });
  const chosen = Object.entries(data.measures).filter(([name]) => name.includes(".") && names.includes(name));
  const together = grouped(chosen, ([, one]) => one.metric).filter((same) => same.length > 1).map((same) => {
    const { metric_title: title } = same[0][1];
    const parts = same.map(([name, one]) => [name, one.kind_title]);
    return view(TOGETHER, `${title}: ${parts.map(([, kind]) => kind).join(", ")}`, title, ...parts);
  });
  return [
    ...MEASURES.map((name) => view("Headline", name, name, [name, name])),
    view(TOGETHER, HEADLINES.join(", "), "", ...HEADLINES.map((name) => [name, name])),
    ...together,
    ...chosen.map(([name, { kind, title }]) => view(kind, title, title, [name, title])),
  ];
}

/** An interval as text. */
const bracketed = (ends, digits) => `[${ends.map((end) => figure(end, digits)).join(", ")}]`;

/** A mean over seeds as text, with the lowest and highest if there are several. */
const spread = ({ value, low, high, seeds }) => figure(value, 3)
  + (seeds > 1 ? `, ${seeds} seeds from ${figure(low, 3)} to ${figure(high, 3)}` : "");

/** For plotly: the distances of a value's interval up and down; 0 without an interval. */
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

/** The part of the shares' range that these values use, with a margin. */
function usedRange(values) {
  const known = values.filter((value) => value != null);
  const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const margin = Math.max(0.06 * (high - low), (NARROWEST - (high - low)) / 2);
  return [Math.max(-0.03, low - margin), Math.min(1.03, high + margin)];
}

/** The axis of a view with these values: logarithmic for perplexities. */
function valueAxis({ axis, parts }, values) {
  const measures = parts.map(([name]) => data.measures[name]);
  const title = plain(axis);
  if (measures.every(({ log }) => log)) return { title, type: "log" };
  const shares = measures.every(({ range }) => range && range[0] === 0 && range[1] === 1);
  return shares ? { title, range: usedRange(values) } : { title };
}
