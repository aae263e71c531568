// What waits for what: processes that wait, what they wait for, and what holds it.

import { clean, named, number, objectsOf, shape } from "./format.js";

/** The most nodes of a column, and from how many processes on those with the same wait are one node. */
const MOST = 24;
const ALIKE = 4;
const HEIGHT = 40;
const STEP = 56;

/** Nodes and edges, in three columns: those that wait, objects, those that wait for nothing. */
function build(seen, rates) {
  const columns = [[], [], []];
  const nodes = new Map();
  const edges = [];
  const node = (key, column, title, text, href, kind = "") => {
    if (!nodes.has(key)) {
      const made = { key, title, text, href, kind, column };
      nodes.set(key, made);
      columns[column].push(made);
    }
    return nodes.get(key);
  };
  const members = new Set(
    seen.deadlocks.flatMap((deadlock) => deadlock.members.map((member) => `${member.pid} ${member.lock}`)),
  );
  const stuck = new Set(seen.deadlocks.flatMap((deadlock) => deadlock.members.map((member) => member.pid)));
  const locked = new Map(seen.deadlocks.flatMap((deadlock) => deadlock.members.map((member) => [member.lock, member])));
  const awaited = new Map();
  for (const process of seen.processes) {
    for (const wait of process.waits) {
      if (!wait.object || !wait.kind) continue;
      if (!awaited.has(wait.object)) awaited.set(wait.object, { kind: wait.kind, waits: [] });
      awaited.get(wait.object).waits.push({ process, wait });
    }
  }
  const locks = new Map(seen.locks.map((lock) => [lock.id, lock]));
  const holders = new Set([...awaited.keys()].map((id) => locks.get(id)?.holder?.pid).filter(Boolean));
  const queues = new Map(seen.queues.map((queue) => [queue.id, queue]));
  const pools = new Map(seen.pools.map((pool) => [pool.id, pool]));
  const labels = new Map(objectsOf(seen).map((one) => [one.id, one]));
  const rank = ([id, { kind, waits }]) =>
    (locked.has(id) ? 0 : kind === "lock" || kind === "rlock" ? 1 : 2) * 1e6 - waits.length;
  const objects = [...awaited.entries()].sort((one, other) => rank(one) - rank(other));
  // What flows is shown, too, where nothing waits.
  for (const queue of seen.queues)
    if (!awaited.has(queue.id) && (queue.depth || rates.objects.get(queue.id)?.inward))
      objects.push([queue.id, { kind: "queue", waits: [] }]);
  for (const pool of seen.pools)
    if (!awaited.has(pool.id) && pool.running) objects.push([pool.id, { kind: "pool", waits: [] }]);
  for (const [id, { kind, waits }] of objects) {
    const flow = rates.objects.get(id);
    let text = kind;
    let href = null;
    if (queues.has(id)) {
      const queue = queues.get(id);
      href = `#/queue/${id}`;
      text = `${number(queue.depth)} items` + (flow ? `, ${number(flow.inward)}/s` : "");
    } else if (pools.has(id)) {
      href = `#/pool/${id}`;
      text = `${pools.get(id).queued} queued`;
    } else if (labels.get(id)?.made) {
      text = clean(labels.get(id).made).replace(/^.*\//, "");
    }
    const title = labels.get(id)?.name ? `${kind} ${clean(labels.get(id).name)}` : `${kind} ${id}`;
    const object = node(`object ${id}`, 1, title, text, href, locked.has(id) ? "stuck" : "");
    const alike = new Map();
    for (const { process, wait } of waits) {
      const isAlone = process.waits.length === 1 && !holders.has(process.pid) && !stuck.has(process.pid);
      const key = isAlone ? wait.operation : `process ${process.pid}`;
      alike.set(key, [...(alike.get(key) ?? []), { process, wait }]);
    }
    for (const [key, group] of alike) {
      if (group.length >= ALIKE && !key.startsWith("process ")) {
        const operation = group[0].wait.operation;
        const from = node(`group ${id} ${operation}`, 0, `${group.length} processes`, operation, "#/processes");
        edges.push({ from, to: object, kind: "waits", text: operation });
        continue;
      }
      for (const { process, wait } of group) {
        const isStuck = members.has(`${process.pid} ${id}`);
        const from = node(
          `process ${process.pid}`,
          0,
          clean(process.name) || String(process.pid),
          process.name ? String(process.pid) : "process",
          `#/process/${process.pid}`,
          stuck.has(process.pid) ? "stuck" : process.state === "stopped" ? "stopped" : "",
        );
        edges.push({ from, to: object, kind: isStuck ? "waits stuck" : "waits", text: wait.operation });
      }
    }
  }
  const processes = new Map(seen.processes.map((process) => [process.pid, process]));
  for (const [id] of objects) {
    const object = nodes.get(`object ${id}`);
    const holder = locks.get(id)?.holder;
    if (holder?.pid) {
      const process = processes.get(holder.pid);
      const kind = process?.state === "stopped" ? "stopped" : "";
      const to = node(
        `process ${holder.pid}`,
        2,
        clean(holder.name) || String(holder.pid),
        `holds, ${process?.state ?? "?"}`,
        `#/process/${holder.pid}`,
        kind,
      );
      edges.push({
        from: object,
        to,
        kind: locked.has(id) && stuck.has(holder.pid) ? "held stuck" : "held",
        text: "held by",
      });
    } else if (pools.has(id)) {
      const busy = pools.get(id).workers.filter((worker) => worker.pid && worker.item_ms !== null);
      if (busy.length) {
        const to = node(
          `busy ${id}`,
          2,
          `${busy.length} ${busy.length === 1 ? "worker" : "workers"}`,
          "run tasks",
          `#/pool/${id}`,
        );
        edges.push({ from: object, to, kind: "held", text: "run by" });
      }
    }
  }
  let beyond = 0;
  for (const column of columns) {
    beyond += Math.max(0, column.length - MOST);
    for (const left of column.splice(MOST)) nodes.delete(left.key);
  }
  return { columns, edges: edges.filter(({ from, to }) => nodes.has(from.key) && nodes.has(to.key)), beyond };
}

export class Graph {
  constructor(node, note) {
    Object.assign(this, { node, note, drawn: "" });
  }

  update(seen, rates) {
    const { columns, edges, beyond } = build(seen, rates);
    const width = Math.max(280, Math.min(this.node.clientWidth || 900, 1100));
    const shown = JSON.stringify([width, columns, edges.map(({ from, to, kind }) => [from.key, to.key, kind])]);
    if (shown === this.drawn) return;
    this.drawn = shown;
    const isEmpty = columns.every((column) => !column.length);
    this.note.textContent = isEmpty ? "Nothing waits." : beyond ? `and ${beyond} more` : "";
    this.node.hidden = isEmpty;
    const gap = Math.max(24, width * 0.1);
    const size = (width - 2 * gap) / 3;
    let rows = 1;
    columns.forEach((column, number) => {
      let row = 0;
      for (const node of column) {
        // What holds something stands beside it, if there is room.
        const beside = number === 2 ? (edges.find((edge) => edge.to === node)?.from.row ?? 0) : 0;
        node.row = Math.max(row, beside);
        Object.assign(node, { x: number * (size + gap), y: node.row * STEP + (STEP - HEIGHT) / 2 });
        row = node.row + 1;
      }
      rows = Math.max(rows, row);
    });
    const height = rows * STEP;
    const focused = document.activeElement?.getAttribute("data-key");
    const marks = ["", "stuck"].map((kind) =>
      shape(
        "marker",
        {
          id: `arrow${kind}`,
          class: `arrow ${kind}`,
          viewBox: "0 0 8 8",
          refX: 7,
          refY: 4,
          markerUnits: "userSpaceOnUse",
          markerWidth: kind ? 13 : 10,
          markerHeight: kind ? 13 : 10,
          orient: "auto-start-reverse",
        },
        shape("path", { d: "M0 0L8 4L0 8z" }),
      ),
    );
    const svg = shape(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "group",
        "aria-label":
          "Graph: arrows lead from a process to what it waits for, and on to what holds it. The tables have the same.",
      },
      shape("defs", {}, ...marks),
    );
    for (const { from, to, kind, text } of edges) {
      const isBack = to.x < from.x;
      const shift = isBack
        ? 9
        : edges.some((edge) => edge.from === to && edge.to.x < edge.from.x) ||
            (to.column === 1 && kind.startsWith("waits"))
          ? -9
          : 0;
      const x1 = isBack ? from.x : from.x + size;
      const x2 = isBack ? to.x + size : to.x;
      const line = shape("line", {
        x1,
        y1: from.y + HEIGHT / 2 + shift,
        x2,
        y2: to.y + HEIGHT / 2 + shift,
        class: `edge ${kind}`,
        "marker-end": `url(#arrow${kind.endsWith("stuck") ? "stuck" : ""})`,
        "aria-hidden": "true",
      });
      line.append(shape("title", {}, `${from.title} ${text} ${to.title}`));
      svg.append(line);
    }
    for (const node of columns.flat()) svg.append(draw(node, size));
    this.node.replaceChildren(svg);
    if (focused) svg.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

function draw(node, size) {
  const fits = (text, wide) => {
    const room = Math.max(3, Math.floor((size - 14) / wide));
    const chars = [...text];
    return chars.length > room ? `${chars.slice(0, room - 1).join("")}\u2026` : text;
  };
  const parts = [
    shape("title", {}, `${node.title}: ${node.text}`),
    shape("rect", {
      x: node.x + 0.5,
      y: node.y + 0.5,
      width: size - 1,
      height: HEIGHT - 1,
      rx: node.column === 1 ? 4 : 16,
    }),
    shape("text", { x: node.x + size / 2, y: node.y + 17, class: "title" }, fits(node.title, 7.4)),
    shape("text", { x: node.x + size / 2, y: node.y + 32 }, fits(node.text, 6.2)),
  ];
  const group = { class: `node ${node.kind}`, "data-key": node.key };
  if (!node.href) return shape("g", group, ...parts);
  return shape("a", { ...group, href: node.href, "aria-label": `${node.title}, ${node.text}` }, ...parts);
}

export const memberNames = (deadlock) => deadlock.members.map((member) => named(member.name, member.pid)).join(", ");
