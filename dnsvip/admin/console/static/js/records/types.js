// @ts-check
// What the records of each type look like: a short form, an example, and what is wrong with a text that has another.
// The API checks all of it again; nothing is refused here that it would take.

/** @typedef {{ word: string, fault: (text: string) => string | null }} Part  a word of a record; the fault reads on from its name */

/**
 * A type that the console knows. `rest` is about each word that follows the parts.
 * @typedef {{ help: string, example: string, parts: Part[], rest?: Part, also?: (words: string[]) => string | null }} RecordType
 */

const WORDS = /(?:[^\s"]|"(?:[^"\\]|\\.)*")+/g;
const QUOTED = /^"(?:[^"\\]|\\.)*"$/;
const HOST = /^(?:(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+|\.)$/i;

/**
 * @param {string} word
 * @param {number} most
 * @returns {Part}
 */
function number(word, most) {
  const fault = (/** @type {string} */ text) =>
    /^\d{1,10}$/.test(text) && Number(text) <= most ? null : `must be a number from 0 to ${most}`;
  return { word, fault };
}

/**
 * @param {string} word
 * @returns {Part}
 */
function name(word) {
  return { word: `${word}.`, fault: nameFault };
}

/** @param {string} text */
function nameFault(text) {
  if (!text.endsWith(".")) return `must end in a dot, as in ${text}.`;
  if (text !== "." && /^\.|\.\./.test(text)) return "has nothing between two dots";
  const long = text.split(".").some((label) => !label.includes("\\") && label.length > 63);
  return long ? "has more than 63 characters between two dots" : null;
}

/**
 * @param {string} word
 * @returns {Part}
 */
function host(word) {
  const fault = (/** @type {string} */ text) =>
    nameFault(text) ?? (HOST.test(text) ? null : "must be a hostname of letters, digits and hyphens");
  return { word: `${word}.`, fault };
}

/**
 * @param {string} word
 * @returns {Part}
 */
function hex(word) {
  return {
    word,
    fault: (text) => (/^([0-9a-f]{2})+$/i.test(text) ? null : "must be pairs of the digits 0 to 9 and a to f"),
  };
}

/** @type {Part} */
const STRING = {
  word: '"TEXT"',
  fault: (text) => (QUOTED.test(text) ? null : 'must stand in quotes, a quote in it as \\"'),
};

/** @type {Part} */
const IPV4 = {
  word: "ADDRESS",
  fault: (text) =>
    /^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255)
      ? null
      : "must be an IPv4 address",
};

/** @type {Part} */
const IPV6 = { word: "ADDRESS", fault: (text) => (isIPv6(text) ? null : "must be an IPv6 address") };

/** @param {string} text */
function isIPv6(text) {
  return /^[0-9a-f:.]+$/i.test(text) && text.includes(":") && URL.canParse(`http://[${text}]/`);
}

/** @type {Part} */
const PARAMETER = {
  word: "KEY=VALUE ...",
  fault: (text) => (/^[a-z0-9-]+(=.*)?$/.test(text) ? null : "must be such as alpn=h2,h3"),
};

/**
 * A fault of the last word where it has not as many digits as its kind, the word at `place`, demands.
 * @param {number} place
 * @param {Record<string, number>} digits
 */
function sized(place, digits) {
  return (/** @type {string[]} */ words) => {
    const wanted = digits[words[place] ?? ""];
    const got = words.at(-1)?.length ?? 0;
    return wanted === undefined || wanted === got ? null : `the digest has ${got} digits; this kind has ${wanted}`;
  };
}

const SERVICE = [number("PRIORITY", 65535), name("TARGET")];

/** @type {Record<string, RecordType>} */
export const TYPES = {
  A: { help: "An IPv4 address.", example: "192.0.2.1", parts: [IPV4] },
  AAAA: { help: "An IPv6 address.", example: "2001:db8::1", parts: [IPV6] },
  CNAME: {
    help: "Another name for what is here. It must be the only record of its name.",
    example: "www.example.test.",
    parts: [name("NAME")],
  },
  MX: {
    help: "A server that takes mail; the lowest priority is tried first.",
    example: "10 mail.example.test.",
    parts: [number("PRIORITY", 65535), host("SERVER")],
  },
  TXT: {
    help: "Text in quotes, which are added where they are missing. Long text may be several strings.",
    example: '"v=spf1 mx -all"',
    parts: [STRING],
    rest: STRING,
  },
  SRV: {
    help: "Where a service is; the name is as in _sip._tcp.",
    example: "10 5 5060 sip.example.test.",
    parts: [number("PRIORITY", 65535), number("WEIGHT", 65535), number("PORT", 65535), host("SERVER")],
  },
  CAA: {
    help: "Which authority may issue certificates. Tags: issue, issuewild, iodef.",
    example: '0 issue "ca.example.net"',
    parts: [
      number("FLAGS", 255),
      { word: "TAG", fault: (text) => (/^[a-z0-9]+$/i.test(text) ? null : "must be letters and digits") },
      { ...STRING, word: '"VALUE"' },
    ],
  },
  NS: { help: "A name server of this name.", example: "ns1.example.test.", parts: [host("SERVER")] },
  HTTPS: {
    help: "How to reach a web site. Priority 0: it is at the target; else parameters, and a target of . is the name itself.",
    example: "1 . alpn=h2,h3",
    parts: SERVICE,
    rest: PARAMETER,
  },
  SVCB: {
    help: "How to reach a service. Priority 0: it is at the target; else with parameters.",
    example: "1 svc.example.test. alpn=dot port=853",
    parts: SERVICE,
    rest: PARAMETER,
  },
  PTR: { help: "The name that an address has.", example: "www.example.test.", parts: [name("NAME")] },
  DS: {
    help: "The digest of a key that signs the zone below this name.",
    example: `12345 13 2 ${"0123456789abcdef".repeat(4)}`,
    parts: [number("KEY-TAG", 65535), number("ALGORITHM", 255), number("DIGEST-TYPE", 255), hex("DIGEST")],
    also: sized(2, { 1: 40, 2: 64, 4: 96 }),
  },
  TLSA: {
    help: "The certificate or key that a server has; the name is as in _443._tcp.",
    example: `3 1 1 ${"0123456789abcdef".repeat(4)}`,
    parts: [number("USAGE", 255), number("SELECTOR", 255), number("MATCHING", 255), hex("DATA")],
    also: sized(2, { 1: 64, 2: 128 }),
  },
};

/** Types that a set may be of beside those; their records are as in a zone file, with absolute names. */
export const OTHERS = ["CERT", "DNAME", "HINFO", "LOC", "NAPTR", "OPENPGPKEY", "RP", "SMIMEA", "SSHFP", "URI"];

/**
 * The short form of a type: "PRIORITY SERVER."
 * @param {RecordType} type
 */
export function formOf({ parts, rest }) {
  return [...parts, ...(rest && rest !== parts[0] ? [rest] : [])].map(({ word }) => word).join(" ");
}

/**
 * What is wrong with the content of a record; null where nothing is, as far as the console knows.
 * @param {string} type
 * @param {string} content
 * @returns {string | null}
 */
export function contentFault(type, content) {
  if (!content) return "is empty; fill it in or remove it";
  const known = TYPES[type];
  if (!known) return null;
  const words = content.match(WORDS) ?? [];
  const { parts, rest, also } = known;
  if (words.join(" ") !== content) return "has a quote that does not end, or more than one space between two words";
  if (words.length < parts.length || (!rest && words.length > parts.length))
    return `must be ${formOf(known)}, such as ${known.example}`;
  for (const [place, word] of words.entries()) {
    const part = parts[place] ?? rest;
    const fault = part?.fault(word);
    if (part && fault) return `${part.word} ${fault}, not ${word}`;
  }
  return also?.(words) ?? null;
}

/**
 * A content as the API writes it: TXT in quotes, one space between words.
 * @param {string} type
 * @param {string} text
 */
export function tidied(type, text) {
  const content = text.trim();
  if (type === "TXT" && content && !content.startsWith('"')) return `"${content.replace(/[\\"]/g, "\\$&")}"`;
  return content.includes('"') ? content : content.replace(/\s+/g, " ");
}
