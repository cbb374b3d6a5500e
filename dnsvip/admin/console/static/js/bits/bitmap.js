// @ts-check
// The bits of an address as they stand on the wire.
import { h } from "../draw/dom.js";

/**
 * All bits of an address, four to a hexadecimal digit, coloured by field, with a legend that tells each.
 * @param {string} bits
 * @param {import("./bits.js").Field[]} fields
 */
export function bitMap(bits, fields) {
  const of = (/** @type {number} */ place) =>
    fields.find((field) => place >= field.from && place < field.from + field.bits);
  const digits = Array.from({ length: 32 }, (_, digit) => {
    const cells = [0, 1, 2, 3].map((offset) => {
      const place = digit * 4 + offset;
      const field = of(place);
      return h(
        "span.bit",
        { class: field ? `f-${field.colour}` : "", title: field ? `bit ${place}: ${field.name}` : `bit ${place}` },
        bits[place],
      );
    });
    return h(
      "span.nibble",
      { class: digit % 4 === 3 ? "group-end" : "" },
      h("span.bits", cells),
      h("span.digit", Number.parseInt(bits.slice(digit * 4, digit * 4 + 4), 2).toString(16)),
    );
  });
  const said = fields.map((field) => `${field.name} ${field.bits} bits`).join(", ");
  return [
    h("div.bitmap", { role: "img", "aria-label": `128 bits: ${said || "no known fields"}` }, digits),
    legend(fields),
  ];
}

/** @param {import("./bits.js").Field[]} fields */
function legend(fields) {
  return h(
    "ul.field-legend",
    fields.map((field) =>
      h(
        "li",
        h("span.swatch", { class: `f-${field.colour}` }),
        h("strong", field.name),
        h(
          "span.faint",
          field.bits === 1 ? `bit ${field.from}` : `bits ${field.from} to ${field.from + field.bits - 1}`,
        ),
        field.value ? h("span.soft", field.value) : null,
      ),
    ),
  );
}
