// The charts, drawn by plotly. Its texts know some markup, so data is escaped with `plain`.

const SIZES = ["seconds_per_edit", "bytes_per_edit"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "pentagon", "cross"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const CLEAR = "rgba(0,0,0,0)";
const DARK = "(prefers-color-scheme: dark)";
const NARROW = "(max-width: 45rem)";
// The buttons are named one by one: among plotly's own choice is one that sends the chart to a server.
const BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
const CONFIG = { displaylogo: false, responsive: true, plotlyServerURL: "", modeBarButtons: BUTTONS };
const LABEL = "%{text}<extra></extra>";

const CAPTIONS = {
  nothing: "Nothing of this run was scored.",
  age: "A column follows the edits of one part of the stream as they grow older, upwards: right after they were made, "
    + "and at the evaluation points.",
  stage: "This run has no evaluation points: each edit was scored right after it was made, and at the end.",
};

const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A run's colour and symbol follow from its method and settings: the same in all charts, whatever the filter. */
class Charts {
  constructor(runs) {
    this.variants = distinct(runs.map((run) => run.variant));
  }

  look(run) { return this.pen(this.variants.indexOf(run.variant)); }

  /** The looks of the line with this number: 64 that differ. */
  pen(index) {
    const colours = style("--series").split(/\s+/);
    const turn = Math.floor(index / colours.length); // the same colour again has another symbol
    return {
      color: colours[index % colours.length], symbol: SYMBOLS[(index + turn) % SYMBOLS.length],
      dash: DASHES[index % DASHES.length],
    };
  }

  /** One measure of these runs, or several of `run`. */
  curves(runs, view, run) {
    const [[first]] = view.parts;
    const lines = view.parts.length > 1
      ? view.parts.map(([measure, name], i) => ({ run, measure, name, look: this.pen(i) }))
      : runs.map((run) => ({ run, measure: first, name: run.label, look: this.look(run) }));
    const traces = lines.flatMap((line) => this.curve(line));
    const xaxis = { title: "edits", rangemode: "tozero" };
    this.draw("curves-chart", traces, { xaxis, yaxis: valueAxis(view) });
  }

  /** A run's measure right after each edit, and later. */
  curve({ run, measure, name, look: { color, symbol } }) {
    const { immediate, interim } = run.curves;
    const trace = (curve, when, line, marker) => {
      const y = series(run, curve, measure);
      const text = y.map((value, i) => `${plain(name)}<br>${when}, ${curve.edits[i]} edits: ${figure(value, 3)}`);
      return {
        x: curve.edits, y, text, hovertemplate: LABEL, name: plain(name), legendgroup: name, mode: "lines+markers",
        line: { color, ...line }, marker: { color, symbol, ...marker }, connectgaps: true,
      };
    };
    const collapse = { edits: interim.edits.filter((at) => at === run.cells.collapsed_at) };
    for (const [key, values] of Object.entries(interim)) {
      if (key !== "edits") collapse[key] = values.filter((_, i) => interim.edits[i] === run.cells.collapsed_at);
    }
    return [
      trace(immediate, "right after, mean up to", { width: 2 }, { size: 6, maxdisplayed: 8 }),
      trace(interim, "scored after", { width: 1.5, dash: "dash" }, { size: 8 }),
      trace(collapse, "collapsed after", { width: 0 }, { size: 16, symbol: "x-open" }),
    ].filter(({ y }) => y.some((value) => value != null)).map((one, i) => ({ ...one, showlegend: i === 0 }));
  }

  /** Measures after the last edit over a setting; a line for each measure and each combination of other settings. */
  study(runs, setting, view) {
    const lines = studyLines(runs, setting);
    const several = view.parts.length > 1;
    const traces = lines.flatMap((line) => view.parts.map(([measure, part]) => {
      const name = [variant(line[0], lines.flat(), ["seed", setting]), ...several ? [part] : []].join(" · ");
      return { name, points: studyPoints(line, setting, measure) };
    })).filter(({ points }) => points.length).map((line, i) => this.studied(line, setting, this.pen(i)));
    const xaxis = settingAxis(setting, lines.flat().map((run) => run.settings[setting]));
    if (xaxis.type === "category") for (const trace of traces) trace.x = trace.x.map(plain);
    this.draw("study-chart", traces, { xaxis, yaxis: valueAxis(view) });
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
      mode: "lines+markers", line: { color, dash, width: 2 }, marker: { color, symbol, size: 9 },
      error_y: errorBars(y, points.map(({ interval }) => interval), { color, thickness: 1 }),
    };
  }

  tradeoff(runs, size) {
    const there = runs.filter(({ cells }) => cells.reliability != null && cells.locality != null);
    const largest = Math.max(...there.map((run) => run.cells[size] ?? 0));
    const traces = there.map((run) => {
      const { cells, intervals } = run;
      const { color, symbol } = this.look(run);
      const share = largest > 0 ? Math.sqrt((cells[size] ?? 0) / largest) : 0;
      const bar = (name) => errorBars([cells[name]], [intervals[name]], { color, thickness: 1, width: 0 });
      const facts = [...HEADLINES, ...SIZES].map(columnOf)
        .map(({ name, title, digits }) => `${title} ${figure(cells[name], digits)}`);
      return {
        x: [cells.locality], y: [cells.reliability], mode: "markers", name: plain(run.label),
        error_x: bar("locality"), error_y: bar("reliability"),
        marker: { color, symbol, size: 9 + 25 * share, opacity: 0.8, line: { color: style("--card"), width: 1 } },
        text: [[plain(run.label), ...facts].join("<br>")], hovertemplate: LABEL,
      };
    });
    const range = [-0.06, 1.06];
    const [xaxis, yaxis] = ["locality", "reliability"].map((title) => ({ title, range }));
    this.draw("tradeoff-chart", traces, { xaxis, yaxis });
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
      const density = { type: "histogram", histnorm: "probability density", opacity: 0.5, hoverinfo: "skip",
        marker: { color }, showlegend: false };
      return [
        { x, y, mode: "markers", name: title, marker: { color, symbol, size: 6, opacity: 0.7 }, hoverinfo: "name" },
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
      legend: { itemsizing: "constant", ...(matchMedia(NARROW).matches ? { orientation: "h", y: -0.25 } : {}) },
      showlegend: traces.length > 0 && traces[0].type !== "heatmap",
      hoverlabel: { bgcolor: card, bordercolor: quiet, font: { color: text }, namelength: -1, align: "left" },
      annotations: traces.length ? [] : [nothing], ...more,
    };
    Plotly.react(id, traces, layout, CONFIG);
  }
}
