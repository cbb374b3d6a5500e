// @ts-check
// Epochs as bars over time: from their publication through their use to their end.
import { h, s } from "./dom.js";
import { clock, duration } from "./format.js";

/**
 * @typedef {object} Epoch
 * @property {number} slot
 * @property {string} state
 * @property {number} published_at
 * @property {number} [activated_at]
 * @property {number} [retiring_since]
 * @property {number} [retires_at]
 */

const ROW = 30;
const AHEAD = 0.25;
const LEAST = 120;

/**
 * The timeline of one cluster. Bars are coloured by state; the line marks the present. It looks at most as far ahead as
 * back; a bar that reaches the end continues. Times are unix seconds.
 * @param {{ cluster: string, epochs: Epoch[] }} keys
 */
export function timeline({ cluster, epochs }) {
  const now = Date.now() / 1000;
  const sorted = [...epochs].sort((a, b) => b.published_at - a.published_at);
  const first = Math.min(...epochs.map((epoch) => epoch.published_at), now - LEAST);
  const past = now - first;
  const last = now + Math.min(past, Math.max(past * AHEAD, ...epochs.map((epoch) => (epoch.retires_at ?? 0) - now)));
  const share = (/** @type {number} */ time) =>
    (100 * (Math.min(Math.max(time, first), last) - first)) / (last - first);
  const height = sorted.length * ROW;
  const bars = sorted.map((epoch, row) =>
    stretches(epoch, now, last).map(([from, to, state]) =>
      s("rect", {
        x: `${share(from)}%`,
        width: `${Math.max(0.4, share(to) - share(from))}%`,
        y: row * ROW + 6,
        height: ROW - 12,
        rx: 4,
        class: `epoch-${state}`,
      }),
    ),
  );
  const line = s("line.now-line", { x1: `${share(now)}%`, x2: `${share(now)}%`, y1: 0, y2: height });
  const described = sorted.map((epoch) => `slot ${epoch.slot} ${epoch.state}`).join(", ");
  const names = h(
    "div.timeline-names",
    { "aria-hidden": "true" },
    sorted.map((epoch) => h("span", `slot ${epoch.slot}`)),
  );
  const mark = h("span.timeline-now", "now");
  mark.style.left = `${share(now)}%`;
  const scale = h(
    "div.timeline-scale",
    { "aria-hidden": "true" },
    h("span", clock(first)),
    share(now) > 18 && share(now) < 82 ? mark : null,
    h("span", `in ${duration(last - now)}`),
  );
  const legend = h(
    "ul.legend",
    ["published", "active", "retiring"].map((state) =>
      h("li", h("span.swatch", { class: `epoch-swatch-${state}` }), state),
    ),
  );
  const drawing = s(
    "svg",
    { role: "img", "aria-label": `Epochs of ${cluster}: ${described}`, width: "100%", height },
    bars,
    line,
  );
  return h("figure.timeline", h("div.timeline-box", names, h("div", drawing, scale)), legend);
}

/**
 * The states that an epoch goes through, as [from, to, state].
 * @param {Epoch} epoch
 * @param {number} now
 * @param {number} last
 * @returns {[number, number, string][]}
 */
function stretches(epoch, now, last) {
  const { published_at: published, activated_at: active, retiring_since: retiring, retires_at: retires } = epoch;
  /** @type {[number, number, string][]} */
  const parts = [[published, active ?? now, "published"]];
  if (active) parts.push([active, retiring ?? (epoch.state === "active" ? last : now), "active"]);
  if (retiring) parts.push([retiring, retires ?? now, "retiring"]);
  return parts.filter(([from, to]) => to > from);
}
