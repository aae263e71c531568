// The list of families: asks for it again and again, and changes the rows in place.

import { arrange, bytes, clean, counted, element, time, write } from "./format.js";

const $ = (id) => document.getElementById(id);
/** Milliseconds between two questions. */
const PAUSE = 2000;

const rows = new Map();

/** The texts of a row; the first one is a link to the family's page. */
function textsOf(family) {
  if (family.error) return ["a family", "", "", "", "", "", clean(family.error)];
  return [
    family.root ? String(family.root) : "gone",
    clean(family.program),
    String(family.processes),
    time(family.age_ms),
    time(family.cpu_ms),
    bytes(family.committed_bytes),
    family.warnings.map(clean).join("; ") || "-",
  ];
}

function makeRow(family) {
  const link = element("a", { href: `${family.number}/` });
  const cells = [2, 3, 4, 5].map(() => element("td", { class: "number" }));
  const warnings = element("td");
  const program = element("td");
  const row = element("tr", {}, element("th", { scope: "row" }, link), program, ...cells, warnings);
  return { row, parts: [link, program, ...cells, warnings] };
}

function show(families) {
  for (const family of families) {
    if (!rows.has(family.number)) rows.set(family.number, makeRow(family));
    const { parts } = rows.get(family.number);
    textsOf(family).forEach((text, at) => write(parts[at], text));
    parts[6].className = family.warnings?.length ? "bad" : "";
  }
  const there = new Set(families.map((family) => family.number));
  for (const number of rows.keys()) if (!there.has(number)) rows.delete(number);
  arrange(
    $("list"),
    families.map((family) => rows.get(family.number).row),
  );
  write($("state"), counted(families.length, "family", "families"));
}

async function ask() {
  try {
    const answer = await fetch("api/families");
    if (!answer.ok) throw new Error(answer.statusText);
    show((await answer.json()).families);
    $("state").className = "";
  } catch {
    write($("state"), "connection lost");
    $("state").className = "connection-lost";
  }
  setTimeout(ask, PAUSE);
}

ask();
