// Groups: runs that differ in their seed only, as one line of tables and charts.

/** Each run alone, or as many groups as there are combinations of all but the seed; a status is never mixed. */
function groups(runs, alone) {
  const key = (run) => JSON.stringify([run.cells.status, place(run, "")]);
  const made = (alone ? runs.map((run) => [run]) : grouped(runs, key)).map(group);
  const alike = Map.groupBy(made, ({ short }) => short);
  return made.map((one) => ({ ...one, name: alike.get(one.short).length > 1 ? one.label : one.short }));
}

/** A group with the cells and intervals of its seeds together, and its names in charts. */
function group(runs) {
  const [first] = runs;
  const short = variant(first, data.runs, ["seed"]);
  if (runs.length === 1) return { ...first, runs, short };
  const made = { ...first, runs, short, label: `${short} · ${runs.length} seeds`, cells: {}, intervals: {} };
  for (const { name: column, digits } of data.columns) {
    const values = distinct(runs.map((run) => run.cells[column]));
    const figures = digits == null || data.labels.includes(column) ? null : overSeeds(runs, column);
    made.cells[column] = figures?.value ?? (values.length > 1 ? values.join(", ") : values[0]);
    if (figures?.interval) made.intervals[column] = figures.interval;
  }
  return made;
}

/** A measure over the edits: the mean of the seeds that have it there, the lowest and the highest. */
function pointsOf({ runs }, part, measure) {
  const values = new Map();
  for (const run of runs) {
    const { edits } = run.curves[part];
    series(run, run.curves[part], measure).forEach((value, i) => {
      if (value != null) values.set(edits[i], [...values.get(edits[i]) ?? [], value]);
    });
  }
  return [...values].sort(([a], [b]) => a - b).map(([edits, several]) => ({
    edits, value: mean(several), low: Math.min(...several), high: Math.max(...several), seeds: several.length,
  }));
}

/** The finished run with the best score; one that collapsed only where no other finished. */
function best(runs) {
  const score = ({ cells }) => cells.score_penalised ?? cells.score ?? -1;
  const rank = (run) => (whole(run) ? score(run) : run.cells.status === "done" ? -2 : -3);
  return runs.reduce((first, run) => (rank(run) > rank(first) ? run : first));
}
