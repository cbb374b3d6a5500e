// @ts-check
// Rates over time as SVG: lines or stacked areas, a legend with the newest values, a reading under the pointer.
import { colourOf } from "./colours.js";
import { fill, h, s } from "./dom.js";
import { clock, duration, rate } from "./format.js";

/** @typedef {import("../api/live.js").Rate} Rate */
/** @typedef {{ name: string, values: Rate[], colour?: number }} Series */
/** @typedef {Series & { colour: number }} Coloured */
/** @typedef {Coloured & { tops: Rate[], bottoms: number[] }} Shape */
/** @typedef {{ from: number, values: number[] }} Stretch  values without a gap, the first of them at place `from` */

const SPAN = 600;
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 6, 10, 22];
const STEPS = [1, 2, 2.5, 5, 10];

/**
 * A chart that `draw({times, series})` fills; `series`: [{name, values, colour}]. `stacked` adds them up. Where a value is
 * null, which is not 0, the line has a gap. The axes stay: time is the last `span` seconds, and the top is lowered only where
 * the values need less than a third of it, or the span is another.
 * @param {string} label
 */
export function chart(label, { height = 200, stacked = false, unit = "per second" } = {}) {
  const svg = s("svg", { role: "img", "aria-label": label, height });
  const legend = h("ul.legend");
  const tip = h("div.chart-tip", { hidden: true });
  const nothing = h("div.nothing", "No traffic in this time");
  const box = h("div.chart", svg, tip, nothing);
  const element = h("figure", box, legend);
  /** @type {{ times: number[], series: Coloured[] }} */
  let data = { times: [], series: [] };
  let span = SPAN;
  let top = 0;
  /** @type {number | null} */
  let at = null;
  const paint = () => {
    const shown = stacked
      ? pile(data.series)
      : data.series.map((each) => ({ ...each, tops: each.values, bottoms: [] }));
    top = topOf(shown, top);
    draw(svg, { ...data, series: shown }, { height, stacked, at, top, span });
    legendOf(legend, data.series, label, unit, svg);
    nothing.hidden = data.series.length > 0;
    reading(tip, data, at, box, span);
  };
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const share = (event.clientX - bounds.left - LEFT) / (bounds.width - LEFT - RIGHT);
    at = nearest(data.times, (data.times.at(-1) ?? 0) - span * (1 - share));
    paint();
  });
  svg.addEventListener("pointerleave", () => {
    at = null;
    paint();
  });
  new ResizeObserver(paint).observe(box);
  return {
    element,
    draw: (/** @type {{ times: number[], series: Series[], span?: number }} */ news) => {
      if (news.span && news.span !== span) top = 0;
      span = news.span ?? span;
      data = { times: news.times, series: coloured(news.series) };
      paint();
    },
  };
}

/**
 * The place of the time that is closest to one; null where there is none.
 * @param {number[]} times
 * @param {number} wanted
 */
function nearest(times, wanted) {
  const after = times.findIndex((time) => time >= wanted);
  if (!times.length) return null;
  if (after <= 0) return after ? times.length - 1 : 0;
  return wanted - (times[after - 1] ?? 0) < (times[after] ?? 0) - wanted ? after - 1 : after;
}

/**
 * Where a time stands between the beginning (0) and the end (1) of the axis, whose end is the newest time.
 * @param {number[]} times
 * @param {number} place
 * @param {number} span
 */
function shareOf(times, place, span) {
  return Math.max(0, 1 - ((times.at(-1) ?? 0) - (times[place] ?? 0)) / span);
}

/**
 * @param {Series[]} series
 * @returns {Coloured[]}
 */
function coloured(series) {
  return series.map((each) => ({ ...each, colour: each.colour ?? colourOf(each.name) }));
}

/**
 * @param {Coloured[]} series
 * @returns {Shape[]}
 */
function pile(series) {
  /** @type {number[]} */
  const sums = [];
  return series.map((each) => {
    const bottoms = each.values.map((_, place) => sums[place] ?? 0);
    const tops = each.values.map((value, place) =>
      value === null ? null : (sums[place] = (sums[place] ?? 0) + value),
    );
    return { ...each, bottoms, tops };
  });
}

/**
 * The values between the gaps.
 * @param {Rate[]} values
 * @returns {Stretch[]}
 */
function stretches(values) {
  /** @type {Stretch[]} */
  const parts = [];
  values.forEach((value, place) => {
    if (value === null) return;
    const last = parts.at(-1);
    if (last && last.from + last.values.length === place) last.values.push(value);
    else parts.push({ from: place, values: [value] });
  });
  return parts;
}

/** A rate as people read it. @param {Rate | undefined} value */
export function rateOr(value) {
  return value === null || value === undefined ? "unknown" : rate(value);
}

/**
 * The top of the axis: as before, unless that is too low or far too high.
 * @param {Shape[]} series
 * @param {number} before
 */
function topOf(series, before) {
  const most = Math.max(...series.flatMap((each) => each.tops.map((value) => value ?? 0)), 0);
  return !before || most > before || most < before / 3 ? ceiling(most) : before;
}

/**
 * @param {SVGElement} svg
 * @param {{ times: number[], series: Shape[] }} data
 * @param {{ height: number, stacked: boolean, at: number | null, top: number, span: number }} how
 */
function draw(svg, { times, series }, { height, stacked, at, top, span }) {
  const width = Math.max(svg.clientWidth || svg.parentElement?.clientWidth || 300, 120);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const x = (/** @type {number} */ place) => LEFT + (width - LEFT - RIGHT) * shareOf(times, place, span);
  const y = (/** @type {number} */ value) => height - BOTTOM - ((height - TOP - BOTTOM) * value) / top;
  const point = (/** @type {number} */ place, /** @type {number} */ value) =>
    `${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
  const line = (/** @type {Stretch} */ { from, values }) =>
    values.map((value, offset) => `${offset ? "L" : "M"}${point(from + offset, value)}`).join("");
  const area = (/** @type {Shape} */ { bottoms }, /** @type {Stretch} */ stretch) => {
    const back = stretch.values.map((_, offset) => stretch.from + offset).reverse();
    return `${line(stretch)}${back.map((place) => `L${point(place, bottoms[place] ?? 0)}`).join("")}Z`;
  };
  const shapes = series.map((each) => {
    const group = s(`g.s${each.colour}`);
    const parts = stretches(each.tops);
    if (stacked && times.length > 1)
      group.append(
        s("path", {
          d: parts.map((part) => area(each, part)).join(""),
          fill: "currentColor",
          "fill-opacity": 0.28,
        }),
      );
    for (const { from, values } of parts)
      if (values.length === 1)
        group.append(s("circle", { cx: x(from), cy: y(values[0] ?? 0), r: 2, fill: "currentColor" }));
    group.append(
      s("path", {
        d: parts.map(line).join(""),
        fill: "none",
        stroke: "currentColor",
        "stroke-width": stacked ? 1.4 : 1.8,
        "stroke-linejoin": "round",
      }),
    );
    return group;
  });
  const cursor = at === null ? null : s("line.cursor", { x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM });
  fill(svg, axes(width, height, top, span, y), shapes, cursor);
}

/**
 * @param {number} width
 * @param {number} height
 * @param {number} top
 * @param {number} span
 * @param {(value: number) => number} y
 */
function axes(width, height, top, span, y) {
  const marks = [0, top / 2, top].map((value) => [
    s("line.axis", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    s("text.tick", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, rate(value)),
  ]);
  /** @type {[number, string, string][]} */
  const ends = [
    [LEFT, "start", `${duration(span)} ago`],
    [(LEFT + width - RIGHT) / 2, "middle", `${duration(span / 2)} ago`],
    [width - RIGHT, "end", "now"],
  ];
  return [marks, ends.map(([x, anchor, text]) => s("text.tick", { x, y: height - 5, "text-anchor": anchor }, text))];
}

/** @param {number} most */
function ceiling(most) {
  if (most <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(most));
  return size * (STEPS.find((step) => step * size >= most) ?? 10);
}

/**
 * @param {HTMLElement} legend
 * @param {Coloured[]} series
 * @param {string} label
 * @param {string} unit
 * @param {SVGElement} svg
 */
function legendOf(legend, series, label, unit, svg) {
  fill(
    legend,
    series.map((each) =>
      h(
        `li.s${each.colour}`,
        h("span.swatch", { "aria-hidden": "true" }),
        h("span.soft", each.name),
        h("b", rateOr(each.values.at(-1))),
      ),
    ),
  );
  const said = series.map((each) => `${each.name} ${rateOr(each.values.at(-1))}`).join(", ");
  svg.setAttribute("aria-label", `${label}, ${unit}: ${said || "nothing"}`);
}

/**
 * @param {HTMLElement} tip
 * @param {{ times: number[], series: Coloured[] }} data
 * @param {number | null} at
 * @param {HTMLElement} box
 * @param {number} span
 */
function reading(tip, { times, series }, at, box, span) {
  tip.hidden = at === null || !series.length;
  if (at === null || !series.length) return;
  const rows = series.map((each) =>
    h(`div.row.s${each.colour}`, h("span.swatch"), h("span.soft", each.name), h("b.soft", rateOr(each.values[at]))),
  );
  fill(tip, h("div.faint", clock(times[at] ?? 0)), rows);
  const share = shareOf(times, at, span);
  const place = LEFT + share * (box.clientWidth - LEFT - RIGHT);
  tip.style.left = share < 0.5 ? `${place + 10}px` : "";
  tip.style.right = share < 0.5 ? "" : `${box.clientWidth - place + 10}px`;
}

/**
 * A small line without axes, for a number's course.
 * @param {Rate[]} values
 */
export function spark(values, colour = 1) {
  const [width, height] = [120, 30];
  const top = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const x = (/** @type {number} */ place) => ((width * place) / Math.max(1, values.length - 1)).toFixed(1);
  const y = (/** @type {number} */ value) => (height - 2 - ((height - 4) * value) / top).toFixed(1);
  const line = (/** @type {Stretch} */ part) =>
    part.values.map((value, offset) => `${offset ? "L" : "M"}${x(part.from + offset)} ${y(value)}`).join("");
  const d = stretches(values).map(line).join("");
  return s(
    `svg.spark.s${colour}`,
    { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { d, fill: "none", stroke: "currentColor", "stroke-width": 1.6, "vector-effect": "non-scaling-stroke" }),
  );
}
