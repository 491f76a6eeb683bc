// The charts, drawn by plotly. Its texts know some markup, so data is escaped with `plain`.

const COSTS = ["seconds_per_edit", "bytes_per_edit", "question_seconds", "latency_ratio"];
const GLYPHS = {
  circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", x: "✖", star: "★", pentagon: "⬟", cross: "✚",
};
const SYMBOLS = Object.keys(GLYPHS);
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const CLEAR = "rgba(0,0,0,0)";
const DARK = "(prefers-color-scheme: dark)";
const NARROW = "(max-width: 45rem)";
// The buttons are named one by one: among plotly's own choice is one that sends the chart to a server.
const BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
const CONFIG = { displaylogo: false, responsive: true, plotlyServerURL: "", modeBarButtons: BUTTONS };
const MOST_BANDS = 5; // of more lines the bands would cover each other
const LABEL = "%{text}<extra></extra>";

const CAPTIONS = {
  alone: "A point a run: nothing was scored on the way. A curve needs evaluation points, as stream.evaluate_at=[10,30], "
    + "or the protocol's stage \"immediate\".",
  nothing: "Nothing of this run was scored.",
  age: "A column follows the edits of one part of the stream as they grow older, upwards: right after they were made, "
    + "and at the evaluation points.",
  stage: "This run has no evaluation points: each edit was scored right after it was made, and at the end.",
};

const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A colour of the page's style, mixed with this part of its text's colour, and as transparent. */
function mixed(colour, part, alpha = 1) {
  const channels = (one) => one.match(/[\da-f]{2}/gi).map((two) => parseInt(two, 16));
  const [from, to] = [colour, style("--text")].map(channels);
  return `rgba(${from.map((value, i) => Math.round(value + part * (to[i] - value))).join(",")},${alpha})`;
}

/** A method has a colour, and a model a symbol: the same in all charts, whatever the filter. */
class Charts {
  constructor(runs) {
    this.models = distinct(runs.map(({ cells }) => cells.model));
    this.variants = grouped(runs, ({ cells }) => cells.method).map((same) => distinct(same.map((run) => run.variant)));
    if (this.variants.length === 1) this.variants = this.variants[0].map((variant) => [variant]);
  }

  /** Variants of a method have shades of its colour; those of the only method have colours. */
  look(run) {
    const colours = style("--series").split(/\s+/);
    const method = this.variants.findIndex((variants) => variants.includes(run.variant));
    const variants = this.variants[method];
    const part = Math.min(0.4 * Math.floor(method / colours.length), 0.8);
    const shade = part + (0.9 - part) * variants.indexOf(run.variant) / variants.length;
    const { symbol } = this.pen(this.models.indexOf(run.cells.model));
    const colour = (alpha) => mixed(colours[method % colours.length], shade, alpha);
    return { color: colour(1), band: colour(0.18), symbol };
  }

  /** The looks of the line with this number: 64 that differ. */
  pen(index) {
    const colours = style("--series").split(/\s+/);
    const turn = Math.floor(index / colours.length); // the same colour again has another symbol
    const colour = colours[index % colours.length];
    const symbol = SYMBOLS[(index + turn) % SYMBOLS.length];
    return { color: colour, band: mixed(colour, 0, 0.18), symbol, dash: DASHES[index % DASHES.length] };
  }

  /** One measure of these groups, or several of `run`. */
  curves(shown, view, run) {
    const [[first]] = view.parts;
    const lines = view.parts.length > 1
      ? view.parts.map(([measure, name], i) => ({ of: group([run]), measure, name, label: name, look: this.pen(i) }))
      : shown.map((of) => ({ of, measure: first, name: of.name, label: of.label, look: this.look(of) }));
    const traces = lines.flatMap((line) => this.curve(line, lines.length <= MOST_BANDS));
    const yaxis = valueAxis(view, traces.flatMap(({ y }) => y));
    this.draw("curves-chart", traces, { xaxis: { title: "edits", rangemode: "tozero" }, yaxis });
    const alone = traces.length > 0 && traces.every(({ x }) => distinct(x).length < 2);
    byId("curves-note").textContent = alone ? CAPTIONS.alone : "";
  }

  /** A group's measure right after each edit, and later; if `banded`, a band from the lowest seed to the highest. */
  curve({ of, measure, name, label, look: { color, band, symbol } }, banded) {
    const common = { name: plain(name), legendgroup: name, entry: { color, symbol, name, full: label } };
    const trace = (points, when, line, marker) => ({
      ...common, x: points.map(({ edits }) => edits), y: points.map(({ value }) => value), hovertemplate: LABEL,
      text: points.map((point) => `${plain(label)}<br>${when}, ${point.edits} edits: ${spread(point)}`),
      mode: "lines+markers", line: { color, ...line }, marker: { color, symbol, ...marker },
    });
    const area = (points) => ({
      ...common, x: [...points, ...points.toReversed()].map(({ edits }) => edits), hoverinfo: "skip", mode: "lines",
      y: [...points.map(({ high }) => high), ...points.map(({ low }) => low).reverse()],
      fill: points.some(({ seeds }) => seeds > 1) ? "toself" : "none", fillcolor: band, line: { width: 0 },
    });
    const [immediate, interim] = ["immediate", "interim"].map((part) => pointsOf(of, part, measure));
    const collapse = of.runs.flatMap((run) => pointsOf({ runs: [run] }, "interim", measure)
      .filter(({ edits }) => edits === run.cells.collapsed_at));
    const bands = banded ? [immediate, interim].map(area).filter(({ fill }) => fill === "toself") : [];
    return [
      ...bands,
      trace(immediate, "right after, mean up to", { width: 2 }, { size: 6, maxdisplayed: 8 }),
      trace(interim, "scored after", immediate.length ? { width: 1.5, dash: "dash" } : { width: 2 }, { size: 8 }),
      trace(collapse, "collapsed after", { width: 0 }, { size: 16, symbol: "x-open" }),
    ].filter(({ x }) => x.length);
  }

  /** Measures after the last edit over a setting; a line for each measure and each combination of other settings. */
  study(runs, setting, view) {
    const lines = studyLines(runs, setting);
    const several = view.parts.length > 1;
    const traces = lines.flatMap((line) => view.parts.map(([measure, part]) => {
      const name = [variant(line[0], lines.flat(), ["seed", setting]), ...several ? [part] : []].join(" · ");
      return { name, run: line[0], points: studyPoints(line, setting, measure) };
    })).filter(({ points }) => points.length)
      .map((line, i) => this.studied(line, setting, several ? this.pen(i) : this.lookOf(line, i)));
    const xaxis = settingAxis(setting, lines.flat().map((run) => run.settings[setting]));
    if (xaxis.type === "category") for (const trace of traces) trace.x = trace.x.map(plain);
    const ends = traces.flatMap(({ y, error_y: { array, arrayminus } }) => y
      .flatMap((value, i) => [value - arrayminus[i], value + array[i]]));
    this.draw("study-chart", traces, { xaxis, yaxis: valueAxis(view, ends) });
  }

  /** The looks of a line of runs; its dashes tell it from others of the same method. */
  lookOf({ run }, index) {
    return { ...this.look(run), dash: DASHES[index % DASHES.length] };
  }

  studied({ name, points }, setting, { color, symbol, dash }) {
    const text = points.map(({ x, value, interval, seeds, of }) => {
      const count = seeds < of ? `, ${seeds} of ${of} seeds` : of > 1 ? `, ${of} seeds` : "";
      const more = (interval ? ` ${bracketed(interval, 3)}` : "") + count;
      return `${plain(name)}<br>${plain(`${setting} ${x}`)}: ${figure(value, 3)}${more}`;
    });
    const y = points.map(({ value }) => value);
    return {
      x: points.map(({ x }) => x), y, text, hovertemplate: LABEL, name: plain(name),
      legendgroup: name, entry: { color, symbol, name, full: name },
      mode: "lines+markers", line: { color, dash, width: 2 }, marker: { color, symbol, size: 9 },
      error_y: errorBars(y, points.map(({ interval }) => interval), { color, thickness: 1 }),
    };
  }

  /** A point a group: `across` and `up` are columns, as is `size`, which its area stands for. */
  tradeoff(shown, across, up, size) {
    const there = shown.filter(({ cells }) => this.placed(cells[across], across) && this.placed(cells[up], up));
    const largest = Math.max(...there.map(({ cells }) => cells[size] ?? 0));
    const named = distinct([across, up, ...HEADLINES, ...COSTS]);
    const traces = there.map((of) => {
      const { cells, intervals } = of;
      const { color, symbol } = this.look(of);
      const share = largest > 0 ? Math.sqrt((cells[size] ?? 0) / largest) : 0;
      const bar = (name) => errorBars([cells[name]], [intervals[name]], { color, thickness: 1, width: 0 });
      const collapsed = cells.collapsed_at == null ? [] : ["collapsed_at"];
      const facts = [...named, ...collapsed].map(columnOf)
        .map(({ name, title, digits }) => `${title} ${figure(cells[name], digits)}`);
      return {
        x: [cells[across]], y: [cells[up]], mode: "markers", name: plain(of.name), legendgroup: of.name,
        error_x: bar(across), error_y: bar(up), entry: { color, symbol, name: of.name, full: of.label },
        marker: { color, symbol, size: 9 + 18 * share, opacity: 0.8, line: { color: style("--card"), width: 1 } },
        text: [[plain(of.label), ...facts].join("<br>")], hovertemplate: LABEL,
      };
    });
    const [xaxis, yaxis] = [across, up].map((name) => {
      if (COSTS.includes(name)) return { title: columnOf(name).title, type: "log" };
      return { title: name, range: usedRange(there.flatMap((of) => [of.cells[name], ...own(of.intervals, name) ?? []])) };
    });
    this.draw("tradeoff-chart", traces, { xaxis, yaxis });
  }

  /** Whether a figure has a place on its axis: those of costs are logarithmic. */
  placed(value, name) {
    return value != null && (!COSTS.includes(name) || value > 0);
  }

  heat(run, measure) {
    const { heat } = run;
    const when = heat?.by === "age" ? "edits made since: %{y}" : "scored %{y}";
    const map = heat && {
      type: "heatmap", x: heat.x, y: heat.y, z: grid(heat, measure), zmin: 0, zmax: 1, customdata: heat.n,
      colorscale: "Cividis", colorbar: { title: { text: measure }, outlinewidth: 0 },
      xgap: 1, ygap: 1, hoverongaps: false,
      hovertemplate: `edits at %{x}<br>${when}<br>${measure} %{z:.3f}<br>%{customdata} scored<extra></extra>`,
    };
    const ages = heat?.by === "age" ? "age: edits made since" : "";
    this.draw("ages-chart", map ? [map] : [], {
      xaxis: { title: "position in the stream", type: "category", showgrid: false },
      yaxis: { title: ages, type: "category", showgrid: false, automargin: true },
    });
    byId("ages-caption").textContent = CAPTIONS[heat?.by ?? "nothing"];
  }

  /** Hidden states of facts that no edit touched, on two principal components, with their densities at the sides. */
  shift({ shift }) {
    const looks = { before: { ...this.pen(0), title: "before" }, after: { ...this.pen(1), title: "after the edits" } };
    const traces = Object.entries(looks).flatMap(([part, { color, symbol, title }]) => {
      const [x, y] = shift[part];
      const density = { legendgroup: title, type: "histogram", histnorm: "probability density", opacity: 0.5, hoverinfo: "skip",
        marker: { color }, showlegend: false };
      return [
        { x, y, mode: "markers", name: title, legendgroup: title, entry: { color, symbol, name: title, full: title },
          marker: { color, symbol, size: 6, opacity: 0.7 }, hoverinfo: "name" },
        { x, yaxis: "y2", ...density }, { y, xaxis: "x2", ...density },
      ];
    });
    const [first, second] = shift.shares.map((share) => `${figure(100 * share, 0)} % of the variance`);
    const side = { domain: [0.84, 1], showgrid: false, showticklabels: false, zeroline: false };
    const axes = {
      xaxis: { title: `first component, ${first}`, domain: [0, 0.8] },
      yaxis: { title: `second component, ${second}`, domain: [0, 0.8] },
    };
    this.draw("shift-chart", traces, axes, { xaxis2: side, yaxis2: side, barmode: "overlay" });
    byId("shift-caption").textContent = `Output of layer ${shift.layer} at the subject's last token, `
      + `${shift.before[0].length} facts that no edit touches.`;
  }

  draw(id, traces, { xaxis, yaxis }, more = {}) {
    const line = style("--line");
    const [text, quiet, card] = ["--text", "--quiet", "--card"].map(style);
    const lines = { gridcolor: line, linecolor: line, zeroline: false, automargin: true };
    const axis = ({ title, ...rest }) => ({ title: { text: title }, ...lines, ...rest });
    const nothing = { text: "Nothing to show.", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 };
    const layout = {
      xaxis: axis(xaxis), yaxis: axis(yaxis), hovermode: "closest", margin: { t: 24, r: 16 },
      paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, font: { color: text, family: "inherit", size: 13 },
      modebar: { bgcolor: CLEAR, color: quiet, activecolor: text },
      showlegend: false,
      hoverlabel: { bgcolor: card, bordercolor: quiet, font: { color: text }, namelength: -1, align: "left" },
      annotations: traces.length ? [] : [nothing], ...more,
    };
    Plotly.react(id, traces, layout, CONFIG);
    byId(id).parentElement.querySelector(".legend")?.replaceChildren(...this.legend(id, traces));
  }

  /** Below a chart, an entry for each line, which hides it and shows it again. */
  legend(id, traces) {
    const lines = grouped(traces.filter(({ entry }) => entry), ({ legendgroup }) => legendgroup);
    return lines.map(([{ entry, legendgroup }]) => {
      const indices = traces.flatMap((one, i) => (one.legendgroup === legendgroup ? [i] : []));
      const toggle = ({ currentTarget: one }) => {
        const visible = one.ariaPressed === "false";
        one.ariaPressed = String(visible);
        Plotly.restyle(id, { visible }, indices);
      };
      const mark = { class: "glyph", "data-glyph": GLYPHS[entry.symbol], style: `color: ${entry.color}` };
      const button = { type: "button", "aria-pressed": "true", title: entry.full, onclick: toggle };
      return element("li", {}, element("button", button, element("span", mark), isolated(entry.name)));
    });
  }
}
