// How numbers, times and names are written, and how elements are made.

const UNITS = ["B", "K", "M", "G", "T"];

/** Bytes with a unit, as the other commands write them. */
export function bytes(number) {
  let unit = 0;
  while (number >= 1000 && unit + 1 < UNITS.length) {
    number /= 1024;
    unit += 1;
  }
  return (unit === 0 || number >= 100 ? number.toFixed(0) : number.toFixed(1)) + UNITS[unit];
}

/** A time in milliseconds with a unit, as the other commands write it. */
export function time(ms) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (ms < 1000) return `${Math.floor(ms)}ms`;
  if (ms < 60_000) return `${Math.floor(ms / 1000)}.${Math.floor((ms % 1000) / 100)}s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)}m${two((ms / 1000) % 60)}s`;
  return `${Math.floor(ms / 3_600_000)}h${two((ms / 60_000) % 60)}m`;
}

/** A number that may have a fraction, in a few characters. */
export function number(value) {
  if (value >= 10_000) return `${(value / 1000).toFixed(0)}k`;
  return Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

/** A text of the program, without characters that would show the text around it otherwise than it is. */
export function clean(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
}

/** A process by name and identifier. */
export function named(name, pid) {
  return name ? `${clean(name)} (${pid})` : String(pid);
}

/** All objects of a family that have a name or a line that made them. */
export function objectsOf(seen) {
  return ["locks", "queues", "pools", "semaphores", "events", "conditions", "barriers", "collections"].flatMap((kind) => seen[kind]);
}

/** "1 process", "2 processes". */
export function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** An element of HTML. Children that are strings become text. */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

/** Set a node's text, if it is another one. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Let an element have these children, and leave those alone that are in their place. */
export function arrange(parent, children) {
  const focused = document.activeElement;
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}
