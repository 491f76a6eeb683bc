// The charts, drawn by plotly. Its texts know some markup, so data is escaped with `plain`.

const MEASURES = ["score", "reliability", "generality", "locality"];
const SIZES = [["seconds_per_edit", "seconds per edit"], ["bytes_per_edit", "bytes per edit"]];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "pentagon", "cross"];
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
    + "and at the checkpoints.",
  moment: "This run has no checkpoints: each edit was scored right after it was made, and at the end of the stream.",
};

const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The harmonic mean, 0 where a value is; null where one is missing. */
function harmonic(values) {
  if (values.some((value) => value == null)) return null;
  return values.length / values.reduce((sum, value) => sum + 1 / value, 0);
}

/** Colour and symbol by method, the same in all charts, whatever the filter shows. */
class Charts {
  constructor(runs) {
    this.methods = distinct(runs.map((run) => run.cells.method));
  }

  look(run) {
    const index = this.methods.indexOf(run.cells.method);
    const colours = style("--series").split(/\s+/);
    return { color: colours[index % colours.length], symbol: SYMBOLS[index % SYMBOLS.length] };
  }

  curves(runs, measure) {
    const traces = runs.flatMap((run) => {
      const { color, symbol } = this.look(run);
      const name = plain(run.label);
      const trace = (curve, when, extra) => {
        const y = series(curve, measure);
        const text = y.map((value, i) => `${name}<br>${when}, ${curve.edits[i]} edits: ${figure(value, 3)}`);
        return { x: curve.edits, y, text, hovertemplate: LABEL, name, legendgroup: run.label, ...extra };
      };
      const { immediate, checkpoints } = run.curves;
      const solid = trace(immediate, "right after, mean up to", {
        mode: immediate.edits.length > 1 ? "lines" : "markers", line: { color, width: 2 }, marker: { color, symbol },
      });
      const dashed = trace(checkpoints, "scored after", {
        mode: "lines+markers", line: { color, width: 1.5, dash: "dash" }, marker: { color, symbol, size: 8 },
        connectgaps: true,
      });
      const drawn = [solid, dashed].filter(({ y }) => y.some((value) => value != null));
      return drawn.map((one, i) => ({ ...one, showlegend: i === 0 }));
    });
    const free = measure.startsWith("ability.") ? {} : { range: [-0.03, 1.03] }; // a correlation may be negative
    const rates = measure === "perplexity" ? { type: "log" } : free;
    const xaxis = { title: "edits", rangemode: "tozero" };
    this.draw("curves-chart", traces, { xaxis, yaxis: { title: measure, ...rates } });
  }

  tradeoff(runs, size) {
    const there = runs.filter(({ cells }) => cells.reliability != null && cells.locality != null);
    const largest = Math.max(...there.map((run) => run.cells[size] ?? 0));
    const traces = there.map((run) => {
      const { cells, halves } = run;
      const { color, symbol } = this.look(run);
      const share = largest > 0 ? Math.sqrt((cells[size] ?? 0) / largest) : 0;
      const bar = (half) => ({ type: "data", array: [half ?? 0], color, thickness: 1, width: 0 });
      const facts = ["reliability", "generality", "locality"].map((name) => `${name} ${figure(cells[name], 3)}`);
      const costs = SIZES.map(([name, title], i) => `${title} ${figure(cells[name], i ? 0 : 2)}`);
      return {
        x: [cells.locality], y: [cells.reliability], mode: "markers", name: plain(run.label),
        error_x: bar(halves.locality), error_y: bar(halves.reliability),
        marker: { color, symbol, size: 9 + 25 * share, opacity: 0.8, line: { color: style("--card"), width: 1 } },
        text: [[plain(run.label), ...facts, ...costs].join("<br>")], hovertemplate: LABEL,
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

  draw(id, traces, { xaxis, yaxis }) {
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
      annotations: traces.length ? [] : [nothing],
    };
    Plotly.react(id, traces, layout, CONFIG);
  }
}

/** A measure's values along a curve; the score is the harmonic mean of the other three. */
function series(curve, measure) {
  if (measure !== "score") return curve[measure] ?? [];
  return curve.edits.map((_, i) => harmonic(MEASURES.slice(1).map((name) => curve[name][i])));
}

/** A measure's matrix in a heat map. */
function grid(heat, measure) {
  if (measure !== "score") return heat[measure];
  return heat.n.map((line, y) => line.map((_, x) => harmonic(MEASURES.slice(1).map((name) => heat[name][y][x]))));
}
