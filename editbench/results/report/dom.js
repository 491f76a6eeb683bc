// Elements of the page. Data enters it here, as text nodes and attribute values only.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

/** An element with these attributes ("onclick" and the like: listeners) and children (texts, elements, or null). */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Text from the data, isolated: marks that turn the writing direction end with it. */
const isolated = (text) => element("bdi", { dir: "auto" }, String(text));

/** A number as text; NaN and null as a dash. */
function figure(value, digits) {
  if (typeof value !== "number") return "—";
  if (digits === 0) return value.toLocaleString("en", { maximumFractionDigits: value < 10 && value % 1 ? 1 : 0 });
  return value.toFixed(digits);
}

/** Fill a select with [value, label, heading of the group, if any]; its value stays if it is still there. */
function fill(select, choices) {
  const before = select.value;
  select.replaceChildren(...grouped(choices, ([, , heading]) => heading).flatMap((same) => {
    const options = same.map(([value, label]) => element("option", { value }, label));
    return same[0][2] ? element("optgroup", { label: same[0][2] }, ...options) : options;
  }));
  if (choices.some(([value]) => String(value) === before)) select.value = before;
}

/** The values in order, each once. */
const distinct = (values) => [...new Set(values)];

/** Lists of things that agree in `key(thing)`, in the order in which they came. */
const grouped = (things, key) => [...Map.groupBy(things, key).values()];
