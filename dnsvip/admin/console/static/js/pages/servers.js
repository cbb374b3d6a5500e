// @ts-check
// Servers and pools: hundreds of servers filtered, in groups, drained one by one or many at once.
import { all } from "../api/api.js";
import { draw, fill, h } from "../draw/dom.js";
import { dispatchers } from "../api/fleet.js";
import { healthOf } from "../servers/health.js";
import { editInDialog } from "../kinds/kindpage.js";
import { listen, live } from "../api/live.js";
import { button, card, empty, filled, head, lasting } from "../draw/parts.js";
import { reconcile } from "../draw/reconcile.js";
import { may } from "../api/rights.js";
import { note } from "../frame/router.js";
import { description } from "../api/schema.js";
import { bulkBar } from "../servers/bulk.js";
import { chipsOf, filterBar } from "../servers/filters.js";
import { FORM, groupCard, sumsOf } from "../servers/group.js";
import { conditionOf, grouped, matching, rowsOf, trouble } from "../servers/list.js";
import { serverNumbers } from "../servers/numbers.js";
import { showLive } from "../servers/rows.js";

/** @typedef {import("../servers/list.js").Row} Row */
/** @typedef {import("../servers/list.js").Wanted} Wanted */

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  const page = new Servers(await description(), query, signal);
  const make = button("New pool", () => editInDialog("pool", null, { form: FORM, after: page.again }), {
    kind: "main-action",
  });
  fill(
    view,
    head("Servers and pools", {
      lead: "Draining keeps a server’s flows and gives it no new ones; down and maintenance move them to other servers.",
      actions: may("write", "pool") ? [make] : [],
    }),
    page.element,
  );
  await page.again();
  listen(({ now }) => now && page.hear(now), signal);
}

/** The page at work: what was read, what is wanted of it, what is selected. */
class Servers {
  /**
   * @param {import("../api/schema.js").Document} document
   * @param {Record<string, string>} query
   * @param {AbortSignal} signal
   */
  constructor(document, query, signal) {
    this.document = document;
    /** @type {Wanted} */
    this.wanted = { q: "", pool: "", condition: "", by: "pool", sort: "", ...query };
    /** @type {any[]} */
    this.pools = [];
    /** @type {any[]} */
    this.broken = [];
    /** @type {Set<string>} */
    this.chosen = new Set();
    /** @type {Set<string>} */
    this.whole = new Set();
    /** @type {import("../servers/rows.js").Seen} */
    this.seen = { now: live().now, health: new Map(), numbers: serverNumbers() };
    /** @type {import("../servers/list.js").Group[]} */
    this.groups = [];
    this.known = false;
    this.drawn = "";
    this.generation = live().now?.generation;
    this.bar = h("div");
    this.chips = h("div.chips", { role: "group", "aria-label": "Condition" });
    this.place = h("div.stack");
    this.bulk = h("div.bulk", { role: "region", "aria-label": "Selected servers", hidden: true });
    this.element = h("div.stack", card("", [this.bar, this.chips], { flush: true }), this.place, this.bulk);
    const run = filled(
      this.place,
      lasting(() => this.load(signal)),
      signal,
    );
    this.again = async () => {
      await run();
      this.hear(live().now);
    };
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    const read = await all("pools?limit=1000", { signal });
    this.pools = read.filter((pool) => !pool.unreadable);
    this.broken = read.filter((pool) => pool.unreadable);
    this.look(live().now);
    const names = this.pools.map((pool) => pool.name);
    reconcile(this.bar, filterBar(this.wanted, names, this.want));
    return this.content();
  }

  /** @param {Row} row */
  condition = (row) => conditionOf(row.server, this.seen.health.get(row.key), this.known);

  /** @param {any} now */
  look(now) {
    if (!now) return;
    this.seen.now = now;
    this.seen.health = now.sees_status ? healthOf(now) : new Map();
    this.known = Boolean(now.sees_status && (dispatchers(now).length || now.dispatcher));
    if (now.sees_status) this.seen.numbers.read(now);
  }

  /** Write the figures of a poll in place; draw anew only where a server has come into another condition. @param {any} now */
  hear(now) {
    this.look(now);
    const before = this.generation;
    this.generation = now?.generation ?? before;
    if (before && this.generation !== before) return void this.again();
    if (this.sketch() !== this.drawn) return this.redraw();
    showLive(this.place, this.seen);
    this.showSums();
  }

  /** What the list looks like, but for its figures. */
  sketch() {
    const sorts = /** @type {("packets" | "bytes" | "flows")[]} */ (["packets", "bytes", "flows"]);
    return [sorts.map(this.seen.numbers.has), ...rowsOf(this.pools).map(this.condition)].join(" ");
  }

  redraw = () => {
    this.drawn = this.sketch();
    reconcile(this.place, this.content());
    this.paint();
    this.showSums();
  };

  /** @param {Partial<Wanted>} change */
  want = (change) => {
    Object.assign(this.wanted, change);
    this.whole.clear();
    const told = Object.entries(this.wanted).filter(([key, value]) => key !== "by" || value !== "pool");
    note("servers", Object.fromEntries(told));
    this.redraw();
  };

  content() {
    const { wanted, condition, pools } = this;
    if (!pools.length && !this.broken.length)
      return empty("No pools yet", "A pool holds servers that do the same work.");
    const rows = matching(rowsOf(pools), wanted);
    const shown = rows.filter((row) => !wanted.condition || condition(row) === wanted.condition);
    reconcile(this.chips, chipsOf(rows, condition, wanted, this.want));
    this.groups = grouped(pools, shown, wanted, condition, (row) => this.order(row));
    return [
      this.broken.map((pool) => empty(pool.name, `Cannot be read: ${pool.unreadable}`)),
      this.groups.length ? this.groups.map((group) => groupCard(group, this)) : empty("Nothing matches"),
    ];
  }

  /** @param {Row} row */
  order(row) {
    const { sort } = this.wanted;
    if (sort === "packets" || sort === "bytes" || sort === "flows") return this.seen.numbers.of(row.key)[sort] ?? 0;
    return sort === "name" ? 0 : trouble(this.condition(row));
  }

  showSums() {
    for (const { name, rows } of this.groups) {
      const place = this.place.querySelector(`[data-sums=${CSS.escape(name)}]`);
      const text = sumsOf(rows, this.seen.numbers);
      if (place && place.textContent !== text) place.textContent = text;
    }
  }

  /** Show what is selected, and what can be done with it. */
  paint = () => {
    const known = new Set(rowsOf(this.pools).map((row) => row.key));
    this.chosen.forEach((key) => known.has(key) || this.chosen.delete(key));
    for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (this.place.querySelectorAll("[data-select]"))) {
      const chosen = this.chosen.has(box.dataset["select"] ?? "");
      if (box.checked !== chosen) draw(box, chosen);
    }
    this.bulk.hidden = !this.chosen.size;
    reconcile(
      this.bulk,
      bulkBar(this.chosen, () => rowsOf(this.pools), this),
    );
  };
}
