// @ts-check
// The bar of bits in the form of a cluster: its boundaries are dragged, or moved with the arrow keys; what is typed in the
// form moves them too. The tag gets what is left. An example address shows what comes of it.
import { at, call } from "../api/api.js";
import { bitMap } from "./bitmap.js";
import { fieldsOf, parseAddress } from "./bits.js";
import { HEAD, TAG, capacity, fault, leftForTag, odds, room, sum } from "./widths.js";
import { fill, h } from "../draw/dom.js";
import { duration } from "../draw/format.js";
import { facts } from "../draw/parts.js";
import { reconcile } from "../draw/reconcile.js";

/** @typedef {import("../forms/objectform.js").ObjectForm} ObjectForm */
/** @typedef {import("./widths.js").Widths} Widths */
/** @typedef {import("./widths.js").Part} Part */

const WAIT_MS = 350;
const KNOWN = new Set(["tier", "client", "expiry", "nonce", "session"]);
const STEPS = /** @type {Record<string, number>} */ ({
  ArrowRight: 1,
  ArrowUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageUp: 4,
  PageDown: -4,
});

/**
 * Add the bar to the form of a cluster; one of IPv4 has none, as its addresses carry no fields.
 * @param {ObjectForm} made
 */
export function bitBar(made) {
  const layout = fieldOf(made, "layout");
  if (!layout) return;
  const bar = new BitBar(made);
  layout.before(bar.element);
  made.element.addEventListener("input", (event) => bar.element.isConnected && bar.typed(event));
  made.element.addEventListener("click", () => bar.element.isConnected && setTimeout(() => bar.changed(), 0));
  bar.show();
}

/**
 * @param {ObjectForm} made
 * @param {string} path
 * @returns {HTMLElement | null}
 */
function fieldOf(made, path) {
  return made.shown.element.querySelector(`:scope > [data-path=${path}]`);
}

/** The bar of one form. */
class BitBar {
  /** @param {ObjectForm} made */
  constructor(made) {
    this.made = made;
    this.bar = h("div.bitbar", { role: "group", "aria-label": "Bits of an address" });
    this.left = h("p.bits-left", { role: "status" });
    this.facts = h("div");
    this.example = h("div.bits-example");
    this.element = h("div.wide.stack.tight.bits-panel", this.bar, this.left, this.facts, this.example);
    this.timer = 0;
    this.asked = 0;
  }

  /** @param {string} path @returns {{ name: string, bits: number, input: HTMLInputElement }[]} */
  parts(path) {
    const rows = fieldOf(this.made, path)?.querySelectorAll(":scope .form-row") ?? [];
    return [...rows].map((row) => {
      const [name, bits] = row.querySelectorAll("input");
      const input = /** @type {HTMLInputElement} */ (bits);
      return { name: name?.value.trim() ?? "", bits: Number(input?.value) || 0, input };
    });
  }

  /** @param {string} path */
  input(path) {
    return /** @type {HTMLInputElement | null} */ (fieldOf(this.made, path)?.querySelector("input") ?? null);
  }

  /** @returns {Widths} */
  widths() {
    const length = /\/(\d{1,3})$/.exec(this.input("prefix")?.value.trim() ?? "")?.[1];
    return {
      prefix: length === undefined ? null : Number(length),
      fields: this.parts("layout"),
      claims: this.parts("claims"),
      tag: Number(this.input("tag_bits")?.value) || 0,
    };
  }

  /** What was typed elsewhere than into the tag leaves the tag the rest. @param {Event} event */
  typed(event) {
    const own = ["layout", "claims", "prefix"].some((path) =>
      fieldOf(this.made, path)?.contains(/** @type {Node} */ (event.target)),
    );
    if (own) this.giveTagTheRest();
    this.show();
  }

  /** A row may have come or gone, or moved. */
  changed() {
    const now = JSON.stringify(this.widths().fields.map(({ name, bits }) => [name, bits]));
    if (now === this.drawn) return;
    this.giveTagTheRest();
    this.show();
  }

  giveTagTheRest() {
    const left = leftForTag(this.widths());
    const tag = this.input("tag_bits");
    if (tag && left !== null && left >= TAG.least && left <= TAG.most) tag.value = String(left);
  }

  /**
   * Move a boundary: the field before it gets so many bits of what is behind it.
   * @param {number} place
   * @param {number} by
   */
  move(place, by) {
    const fields = this.parts("layout");
    const { least, most } = room(this.widths(), place);
    const bits = Math.max(least, Math.min(most, by));
    const [before, behind] = [fields[place], fields[place + 1]];
    const tag = this.input("tag_bits");
    if (!before || !bits) return;
    before.input.value = String(before.bits + bits);
    if (behind) behind.input.value = String(behind.bits - bits);
    else if (tag) tag.value = String(Number(tag.value) - bits);
    this.show();
  }

  show() {
    const widths = this.widths();
    this.drawn = JSON.stringify(widths.fields.map(({ name, bits }) => [name, bits]));
    reconcile(this.bar, this.segments(widths));
    const wrong = fault(widths);
    const short = widths.tag < TAG.short ? ` ${TAG.short} or more are advised.` : "";
    this.left.className = wrong ? "bits-left bad-text" : short ? "bits-left warn-text" : "bits-left soft";
    this.left.textContent = wrong || `All 128 bits are used; ${widths.tag} are left for the tag.${short}`;
    reconcile(this.facts, wrong ? null : facts(this.follows(widths)));
    clearTimeout(this.timer);
    if (wrong) fill(this.example);
    else this.timer = setTimeout(() => this.preview(), WAIT_MS);
  }

  /** @param {Widths} widths */
  segments(widths) {
    const { prefix, fields, claims, tag } = widths;
    const segment = (
      /** @type {string} */ name,
      /** @type {number} */ bits,
      /** @type {string} */ colour,
      grow = bits,
    ) =>
      h(
        "div.segment",
        {
          class: `f-${colour}`,
          style: { flexGrow: String(grow) },
          dataset: { key: `${name} segment` },
          title: `${name}, ${bits} bits`,
        },
        h("span", name),
        h("b", String(bits)),
      );
    return [
      segment("prefix", prefix ?? 0, "prefix", 8),
      segment("mode, epoch", HEAD, "epoch", 7),
      fields.map((field, place) => [
        segment(field.name || "?", field.bits, KNOWN.has(field.name) ? field.name : "other"),
        this.handle(widths, place),
      ]),
      claims.length ? segment("claims", sum(claims), "other") : null,
      segment("tag", tag, "tag"),
    ];
  }

  /**
   * @param {Widths} widths
   * @param {number} place
   */
  handle(widths, place) {
    const { name, bits } = /** @type {Part} */ (widths.fields[place]);
    const behind = widths.fields[place + 1]?.name ?? "tag";
    const { least, most } = room(widths, place);
    return h("div.handle", {
      role: "slider",
      tabindex: "0",
      "aria-label": `Bits of ${name}, taken from ${behind}`,
      "aria-orientation": "horizontal",
      "aria-valuemin": String(bits + least),
      "aria-valuemax": String(bits + most),
      "aria-valuenow": String(bits),
      "aria-valuetext": `${name} ${bits} bits`,
      dataset: { key: `handle ${place}`, handle: String(place) },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const by = STEPS[event.key];
        if (!by) return;
        event.preventDefault();
        this.move(place, by);
      },
      onpointerdown: (/** @type {PointerEvent} */ event) => this.drag(event, place),
    });
  }

  /**
   * @param {PointerEvent} event
   * @param {number} place
   */
  drag(event, place) {
    const handle = /** @type {HTMLElement} */ (event.currentTarget);
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
    const { fields, claims, tag } = this.widths();
    const own = [...this.bar.querySelectorAll(".segment")].slice(2);
    const width = own.reduce((all, each) => all + each.getBoundingClientRect().width, 0);
    const each = width / Math.max(1, sum(fields) + sum(claims) + tag);
    let moved = 0;
    const move = (/** @type {PointerEvent} */ now) => {
      const wanted = Math.round((now.clientX - event.clientX) / each);
      const before = this.parts("layout")[place]?.bits ?? 0;
      this.move(place, wanted - moved);
      moved += (this.parts("layout")[place]?.bits ?? 0) - before;
    };
    handle.addEventListener("pointermove", move);
    const stop = () => handle.removeEventListener("pointermove", move);
    handle.addEventListener("pointerup", stop, { once: true });
    handle.addEventListener("pointercancel", stop, { once: true });
  }

  /**
   * What follows from the widths.
   * @param {Widths} widths
   * @returns {[string, import("../draw/dom.js").Child][]}
   */
  follows({ fields, tag }) {
    return [
      ["Room for", fields.map(capacity).join(", ")],
      ["A forgery passes", `${odds(tag)} as issued, ${odds(tag - Math.floor(tag / 3))} as proven`],
    ];
  }

  /** Ask for an example address of what is entered. */
  async preview() {
    const turn = (this.asked += 1);
    const body = this.made.shown.whole();
    try {
      const { data } = await call("POST", at("clusters", this.made.name() || "new", "preview"), { body });
      if (turn === this.asked) reconcile(this.example, exampleOf(body, data));
    } catch (problem) {
      const { errors, message } = /** @type {import("../api/api.js").Problem} */ (problem);
      if (turn === this.asked) fill(this.example, h("p.faint", errors?.[0]?.message ?? message));
    }
  }
}

/**
 * @param {any} body
 * @param {any} data
 */
function exampleOf(body, data) {
  const cluster = { ...body, plain: body.plain ?? "", claims: body.claims ?? [] };
  const found = { mode: 0, epoch: 0, values: data.values, address: data.address };
  const lasts =
    data.expiry_seconds === null
      ? "no expiry field: addresses are good as long as their key"
      : `full ${duration(data.expiry_seconds)} after a rotation`;
  const rotates = data.rotation_seconds === null ? "on request only" : `every ${duration(data.rotation_seconds)}`;
  return [
    facts([
      ["Expiry", lasts],
      ["Keys rotate", rotates],
      ["Example", h("span.mono", data.address)],
    ]),
    bitMap(parseAddress(data.address) ?? "", fieldsOf(cluster, found)),
    h("p.faint.note-line", "Made with a key that is forgotten, so no dispatcher accepts it."),
  ];
}
