// SPDX-License-Identifier: Apache-2.0
// What the page knows: the tree of stacks in typed arrays, and the amounts from which every view is summed anew.
//
// Nodes are numbered in preorder, heaviest child first, so that a node's descendants are the numbers up to `end`, parents
// come before children, and one pass over plain arrays sums, lays out or draws. Node 0 is the root.
"use strict";

const KINDS = ["function", "kernel", "inlined", "JIT", "no symbol", "process", "waits for", "note"];
const KERNEL = 1, INLINE = 2, JIT = 3, UNKNOWN = 4, PROCESS = 5, CAUSE = 6, NOTE = 7;

async function readData() {
  const element = document.getElementById("data");
  const text = element.textContent.trim();
  element.textContent = "";
  if (element.dataset.encoding === "plain") return JSON.parse(text);
  if (typeof DecompressionStream === "undefined")
    throw new Error("This browser cannot decompress the data of this page. Make it with sonde flame --plain.");
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// The amounts of one side and measure, unpacked.
function readAmounts(group, renumber) {
  const n = group.node.length;
  const amounts = { side: group.side, measure: group.measure, bucket: new Uint16Array(n), thread: new Uint32Array(n),
                    node: new Uint32Array(n), value: new Float64Array(n) };
  for (let i = 0, bucket = 0; i < n; i++) {
    amounts.bucket[i] = bucket += group.bucket[i];
    amounts.thread[i] = group.thread[i];
    amounts.node[i] = renumber[group.node[i]];
    amounts.value[i] = group.value[i] * group.unit;
  }
  return amounts;
}

// The share of each node in all that there is, with and without its callees. Children are ordered by it: it stays the same
// whatever is chosen, so that frames keep their places.
function weigh(data) {
  const weights = new Float64Array(data.nodes.parent.length + 1);
  for (const group of data.amounts) {
    const total = group.value.reduce((sum, v) => sum + v, 0) || 1;
    group.node.forEach((node, i) => weights[node] += group.value[i] / total);
  }
  const self = weights.slice();
  for (let i = weights.length - 1; i > 0; i--) weights[data.nodes.parent[i - 1]] += weights[i];
  return { weights, self };
}

// New numbers of all nodes: [old -> new], in preorder.
function numberNodes(parents, weights) {
  const n = weights.length, first = new Int32Array(n).fill(-1), next = new Int32Array(n).fill(-1);
  const byWeight = Array.from({ length: n - 1 }, (_, i) => i + 1).sort((a, b) => weights[a] - weights[b] || b - a);
  for (const node of byWeight) { // the heaviest is put in front last
    next[node] = first[parents[node - 1]];
    first[parents[node - 1]] = node;
  }
  const renumber = new Uint32Array(n), stack = [0];
  for (let number = 0; stack.length; number++) {
    const node = stack.pop();
    renumber[node] = number;
    const children = [];
    for (let child = first[node]; child >= 0; child = next[child]) children.push(child);
    while (children.length) stack.push(children.pop());
  }
  return renumber;
}

function makeModel(data) {
  const n = data.nodes.parent.length + 1, text = i => data.texts[i];
  const { weights, self } = weigh(data), renumber = numberNodes(data.nodes.parent, weights);
  const model = { n, parent: new Uint32Array(n), frame: new Int32Array(n).fill(-1), depth: new Uint16Array(n), end: new Uint32Array(n),
                  selfWeight: new Float64Array(n),
                  program: data.program, open: data.open, period: data.period, notes: data.notes,
                  host: text(data.host) + (data.hosts ? " and others" : "") };
  for (let old = 1; old < n; old++) {
    model.parent[renumber[old]] = renumber[data.nodes.parent[old - 1]];
    model.frame[renumber[old]] = data.nodes.frame[old - 1];
    model.selfWeight[renumber[old]] = self[old];
  }
  for (let i = 1; i < n; i++) model.depth[i] = model.depth[model.parent[i]] + 1;
  for (let i = n - 1; i >= 0; i--) {
    model.end[i] = Math.max(model.end[i], i + 1);
    if (i) model.end[model.parent[i]] = Math.max(model.end[model.parent[i]], model.end[i]);
  }
  model.names = data.frames.name.map(text);
  model.libraries = data.frames.library.map(text);
  model.buildIds = data.frames.build_id.map(text);
  model.kinds = Uint8Array.from(data.frames.kind);
  const threads = data.threads;
  model.threads = threads.pid.map((pid, i) => ({ pid, tid: threads.tid[i], comm: text(threads.comm[i]),
    container: text(threads.container[i]), cgroup: text(threads.cgroup[i]), proc: text(threads.proc[i]) }));
  model.sides = data.sides.map(side => ({ ...side, label: text(side.label) }));
  model.amounts = data.amounts.map(group => readAmounts(group, renumber));
  model.measures = ["cpu", "offcpu", "events"].filter(m => model.amounts.some(a => a.measure === m));
  model.differs = model.sides.length > 1;
  return model;
}

// Ways to put threads into groups: a key that tells them apart, and what a person reads.
const GROUPS = {
  name: { title: "Name", key: t => t.comm, label: t => t.comm || "(none)" },
  process: { title: "Process", key: t => t.proc || String(t.pid), label: t => `${t.comm || "(none)"} ${t.pid}` },
  thread: { title: "Thread", key: t => `${t.proc} ${t.tid}`, label: t => `${t.comm || "(none)"} ${t.tid}` },
  container: { title: "Container", key: t => t.container, label: t => t.container ? t.container.slice(0, 12) : "no container" },
  cgroup: { title: "Cgroup", key: t => t.cgroup, label: t => t.cgroup || "(none)" },
};

// For each thread the number of its group, and the groups.
function groupThreads(model, by) {
  const { key, label } = GROUPS[by], numbers = new Map(), groups = [];
  const of = model.threads.map((thread, i) => {
    const k = i ? key(thread) : "\0";
    if (!numbers.has(k)) {
      numbers.set(k, groups.length);
      groups.push({ key: k, label: i ? label(thread) : "(not told apart)", title: i ? describeThread(thread, by) : "" });
    }
    return numbers.get(k);
  });
  return { by, of: Uint32Array.from(of), groups };
}

function describeThread(t, by) {
  if (by === "name") return t.comm;
  if (by === "container") return t.container;
  if (by === "cgroup") return t.cgroup;
  return `${t.comm}, pid ${t.pid}` + (by === "thread" ? `, tid ${t.tid}` : "") + (t.container ? `, container ${t.container}` : "");
}

// Sums what is chosen: `measure`, `ranges` ([from, to) buckets of each side, or null), `grouping` and `chosen` (numbers of
// groups; empty: all). For each side: self and total of each node, sums by group (whatever is chosen) and by bucket.
function sumUp(model, { measure, ranges, grouping, chosen }) {
  const sums = model.sides.map(side => ({ self: new Float64Array(model.n), total: new Float64Array(model.n),
    groups: new Float64Array(grouping.groups.length), buckets: new Float64Array(side.buckets), chosen: new Float64Array(side.buckets) }));
  for (const amounts of model.amounts) {
    if (amounts.measure !== measure) continue;
    const sum = sums[amounts.side], [from, to] = ranges[amounts.side] ?? [0, Infinity];
    for (let i = 0; i < amounts.value.length; i++) {
      const value = amounts.value[i], bucket = amounts.bucket[i], group = grouping.of[amounts.thread[i]];
      const fits = chosen.size === 0 || chosen.has(group);
      sum.buckets[bucket] += value;
      if (fits) sum.chosen[bucket] += value;
      if (bucket < from || bucket >= to) continue;
      sum.groups[group] += value;
      if (fits) sum.self[amounts.node[i]] += value;
    }
  }
  for (const { self, total } of sums) {
    total.set(self);
    for (let i = model.n - 1; i > 0; i--) total[model.parent[i]] += total[i];
  }
  return sums;
}

// Where each node lies: its begin and its width. With two sides the widths are shares, of which each side gives half, or
// those of one side.
function layOut(model, sums, widths) {
  const { n, parent } = model, width = new Float64Array(n), x = new Float64Array(n), next = new Float64Array(n);
  const [a, b] = sums.map(s => s.total);
  for (let i = 0; i < n; i++) {
    if (!b) width[i] = a[i];
    else if (widths === "before") width[i] = a[i] / (a[0] || 1);
    else if (widths === "after") width[i] = b[i] / (b[0] || 1);
    else width[i] = (a[i] / (a[0] || 1) + b[i] / (b[0] || 1)) / 2;
  }
  for (let i = 1; i < n; i++) {
    const p = parent[i];
    x[i] = next[i] = next[p];
    next[p] += width[i];
  }
  return { x, width };
}

// Which frames a search finds: an expression where it is one, else the text as it stands; capitals count once there are some.
function findFrames(model, pattern) {
  if (!pattern) return null;
  const flags = pattern === pattern.toLowerCase() ? "i" : "";
  let expression;
  try {
    expression = new RegExp(pattern, flags);
  } catch {
    expression = new RegExp(pattern.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), flags);
  }
  return Uint8Array.from(model.names, (name, i) => expression.test(name) || expression.test(model.libraries[i]) ? 1 : 0);
}

// What of `top` lies at or below found frames, each amount counted once.
function sumFound(model, found, total, top) {
  let sum = 0;
  for (let i = top; i < model.end[top];) {
    const hit = model.frame[i] >= 0 && found[model.frame[i]];
    if (hit) sum += total[i];
    i = hit || total[i] === 0 ? model.end[i] : i + 1;
  }
  return sum;
}
