// SPDX-License-Identifier: Apache-2.0
// The page of sonde map. Names come from hostile processes: they are set as text, never as markup, and never name a property.
"use strict";

const SLOW_NS = 1e8;
const SHOWN_MAX = 120; // nodes in the picture at a time
const view = { data: null, nodes: [], links: [], shown: new Set(), shownLinks: [], chosen: null, zoom: null };

async function readData() {
  const element = document.getElementById("data"), text = element.textContent.trim();
  element.textContent = "";
  if (element.dataset.encoding === "plain") return JSON.parse(text);
  if (typeof DecompressionStream === "undefined")
    throw new Error("This browser cannot decompress the data of this page. Make it with sonde map --plain.");
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// ---- words ----

const digits = x => x >= 99.95 || x === 0 ? x.toFixed(0) : x >= 9.995 ? x.toFixed(1) : x.toFixed(2);

function duration(ns) {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 999500) return `${digits(ns / 1e3)} µs`;
  if (ns < 999500000) return `${digits(ns / 1e6)} ms`;
  if (ns < 120e9) return `${digits(ns / 1e9)} s`;
  return ns < 7200e9 ? `${Math.floor(ns / 60e9)} min` : `${digits(ns / 3600e9)} h`;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let i = 0;
  for (; bytes >= 1023.5 && i < units.length - 1; i++) bytes /= 1024;
  return i ? `${digits(bytes)} ${units[i]}` : `${bytes} B`;
}

const number = n => n.toLocaleString("en").replaceAll(",", "\u202f");
const plural = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;
const PHASES = { connect: "no connection", close: "broken", query: "query" };
const causesOf = edge => (edge.causes || []).map(c => `${number(c.count)} ${PHASES[c.at]}: ${c.cause}`)
  .concat(edge.answers && edge.answers.errors ? [`${plural(edge.answers.errors, "request")} without an answer`] : []);
const KINDS = { process: "process", container: "container", address: "address outside this host", others: "all others" };
const kindOf = node => node.kind === "address" && node.local ? "address of this host, owner not seen" : KINDS[node.kind];

// ---- the model ----

// The worst p99 that an edge knows.
const slowest = edge => d3.max([edge.connect, edge.answers, edge.queries], t => t && t.p99_ns) || 0;

// Edges of the same two nodes are one link of the picture.
function makeModel(data) {
  view.data = data;
  view.nodes = data.nodes.map(n => ({ data: n, in: [], out: [], errors: 0, services: [] }));
  const links = new Map();
  for (const edge of data.edges) {
    const key = edge.client * data.nodes.length + edge.server;
    if (!links.has(key)) links.set(key, { source: view.nodes[edge.client], target: view.nodes[edge.server], edges: [], weight: 0, errors: 0, slowest: 0, bytes: 0, tries: 0 });
    const link = links.get(key);
    link.edges.push(edge);
    link.bytes += edge.sent_bytes + edge.received_bytes;
    link.tries += edge.connections + edge.failed + (edge.queries ? edge.queries.count : 0);
    link.errors += edge.errors;
    link.slowest = Math.max(link.slowest, slowest(edge));
    link.bad = link.bad || edge.bad && edge.errors > 0;
    link.weight = link.bytes + link.tries;
  }
  view.links = [...links.values()];
  for (const link of view.links) {
    link.source.out.push(link);
    link.target.in.push(link);
    link.target.errors += link.bad ? link.errors : 0;
    link.state = link.bad ? "bad" : link.slowest >= SLOW_NS ? "slow" : "fine";
  }
  for (const service of data.services) {
    view.nodes[service.node].services.push(service);
    view.nodes[service.node].errors += service.answers ? service.answers.errors : 0;
  }
  for (const n of view.nodes) n.ports = [...new Set(d3.sort(n.in.flatMap(l => l.edges.map(e => e.port)).filter(p => p)))];
}

// ---- the picture ----

// Cuts what a text element shows to a width.
function fitText(element, width) {
  const whole = [...element.textContent.slice(0, 200)];
  let low = 0, high = whole.length;
  if (element.getComputedTextLength() <= width) return;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    element.textContent = whole.slice(0, middle).join("") + "…";
    if (element.getComputedTextLength() <= width) low = middle;
    else high = middle - 1;
  }
  element.textContent = whole.slice(0, low).join("") + "…";
}

function moreOf(node) {
  const ports = node.ports.length ? node.ports.slice(0, 4).map(p => ":" + p).join(" ") + (node.ports.length > 4 ? " …" : "") : "";
  const what = node.data.scope || (node.data.kind === "container" && node.data.name) || (node.data.kind === "address" && node.data.local ? "this host" : "");
  return [ports, what].filter(t => t).join(" · ") || node.data.kind;
}

const titleOf = node => node.data.kind === "container" && node.data.comms ? node.data.comms[0] : node.data.label;

function tagOf(link) {
  if (link.bad) return plural(link.errors, "error");
  return link.slowest ? "p99 " + duration(link.slowest) : "";
}

function drawLinks(layer, tags) {
  const most = d3.max(view.shownLinks, l => Math.log2(2 + l.bytes)) || 1;
  const width = l => 1.5 + 10 * (Math.log2(2 + l.bytes) / most) ** 3;
  const groups = layer.selectAll("g").data(view.shownLinks).join("g").attr("class", l => `link ${l.state}`);
  groups.append("path").attr("class", "line").attr("d", pathOf).attr("stroke-width", width);
  groups.append("path").attr("class", "hit").attr("d", pathOf).attr("stroke-width", l => width(l) + 12);
  groups.append("polygon").attr("points", l => arrowOf(l, Math.max(5, width(l) / 2 + 2.5)));
  groups.on("pointermove", (event, l) => showTip(event, linkTip(l))).on("pointerenter", (_, l) => light(l)).on("pointerleave", leave)
    .on("click", (event, l) => { event.stopPropagation(); choose(l); });
  const wanted = view.shownLinks.filter(l => tagOf(l) && (view.shownLinks.length <= 40 || l.state !== "fine"));
  const marks = tags.selectAll("g").data(wanted).join("g").attr("class", l => `tag ${l.state}`);
  marks.each(function (l) {
    const path = groups.filter(m => m === l).select("path.line").node(), length = path.getTotalLength(), turned = l.from !== l.source;
    // Nearer to the client, where links of one server are still apart.
    const at = path.getPointAtLength(length * (l.from === l.to ? .5 : turned ? .6 : .4));
    const text = tagOf(l), w = text.length * 6 + 12;
    d3.select(this).attr("transform", `translate(${at.x},${at.y})`);
    d3.select(this).append("rect").attr("x", -w / 2).attr("y", -9).attr("width", w).attr("height", 18).attr("rx", 9);
    d3.select(this).append("text").attr("y", 3.5).text(text);
  });
}

function drawNodes(layer) {
  const groups = layer.selectAll("g").data([...view.shown]).join("g").attr("class", n => `node ${n.data.kind}`)
    .attr("transform", n => `translate(${n.x},${n.y})`).attr("tabindex", 0).attr("role", "button").attr("aria-label", n => n.data.label);
  groups.append("rect").attr("width", CARD.width).attr("height", n => n.height).attr("rx", 9);
  groups.append("text").attr("class", "name").attr("x", 13).attr("y", n => n.height / 2 + (n.small ? 4.5 : -4)).text(titleOf)
    .each(function (n) { fitText(this, CARD.width - (n.errors ? 42 : 24)); });
  groups.filter(n => !n.small).append("text").attr("class", "more").attr("x", 13).attr("y", n => n.height / 2 + 13).text(moreOf)
    .each(function () { fitText(this, CARD.width - 24); });
  groups.filter(n => n.errors > 0).append("circle").attr("cx", CARD.width - 15).attr("cy", n => n.height / 2 - (n.small ? 0 : 9)).attr("r", 4.5);
  groups.on("pointermove", (event, n) => showTip(event, nodeTip(n))).on("pointerenter", (_, n) => light(n)).on("pointerleave", leave)
    .on("click", (event, n) => { event.stopPropagation(); choose(n); })
    .on("keydown", (event, n) => { if (event.key === "Enter") choose(n); });
}

// Nodes arrive sorted by weight: of too many, the heaviest of these and then of their neighbours are shown.
function show(nodes) {
  const near = nodes.length < view.nodes.length ? nodes.flatMap(n => [...n.out.map(l => l.target), ...n.in.map(l => l.source)]) : [];
  view.shown = new Set([...new Set([...nodes, ...near])].slice(0, SHOWN_MAX));
  view.shownLinks = view.links.filter(l => view.shown.has(l.source) && view.shown.has(l.target));
  draw();
}

function draw() {
  const svg = d3.select("#picture");
  svg.selectAll("*").remove();
  const root = svg.append("g");
  [view.right, view.top, view.bottom] = layOut([...view.shown], view.shownLinks);
  const linkLayer = root.append("g"), tagLayer = root.append("g"), nodeLayer = root.append("g");
  drawLinks(linkLayer, tagLayer);
  drawNodes(nodeLayer);
  view.zoom = d3.zoom().scaleExtent([.05, 4]).on("zoom", event => root.attr("transform", event.transform));
  svg.call(view.zoom).on("dblclick.zoom", null).on("click", () => choose(null));
  fit(.45);
}

// `least` scale: what is first seen can be read, where all of it would be too small.
function fit(least) {
  const box = document.getElementById("pane").getBoundingClientRect(), height = view.bottom - view.top, edge = 34;
  const k = Math.max(least || 0, Math.min(1.25, (box.width - 2 * edge) / view.right, (box.height - 2 * edge - 26) / height));
  d3.select("#picture").call(view.zoom.transform, d3.zoomIdentity.translate((box.width - view.right * k) / 2, (box.height - 26 - height * k) / 2 - view.top * k).scale(k));
}

// ---- light, tip, search ----

const isLink = x => x.edges !== undefined;
const isNear = (x, y) => x === y || isLink(x) && (x.source === y || x.target === y) || isLink(y) && (y.source === x || y.target === x) ||
  !isLink(x) && !isLink(y) && x.out.some(l => l.target === y) || !isLink(x) && !isLink(y) && x.in.some(l => l.source === y);

function light(x) {
  const text = document.getElementById("search").value.trim().toLowerCase();
  const lit = x ? y => isNear(x, y) : text ? y => matches(y, text) : () => true;
  d3.selectAll(".node, .link, .tag").classed("dim", y => !lit(y)).classed("chosen", y => y === view.chosen);
}

function leave() {
  document.getElementById("tip").hidden = true;
  light(view.chosen);
}

function nodeMatches(n, text) {
  if (/^:\d+$/.test(text)) return n.ports.some(p => ":" + p === text);
  return [n.data.label, n.data.name, n.data.container, n.data.scope, ...(n.data.comms || [])].some(t => t && t.toLowerCase().includes(text));
}

function matches(x, text) {
  if (!isLink(x)) return nodeMatches(x, text);
  return nodeMatches(x.source, text) || (/^:\d+$/.test(text) ? x.edges.some(e => ":" + e.port === text) : nodeMatches(x.target, text));
}

function search() {
  const text = document.getElementById("search").value.trim().toLowerCase();
  const found = view.nodes.filter(n => nodeMatches(n, text));
  d3.select("#found").text(text ? number(found.length) : "");
  if (view.nodes.length > SHOWN_MAX) show(text ? found : view.nodes);
  view.chosen = null;
  light(null);
  showPanel();
}

function showTip(event, lines) {
  const tip = d3.select("#tip").attr("hidden", null);
  tip.selectAll("div").data(lines).join("div").attr("class", l => l[0]).text(l => l[1]);
  const box = tip.node().getBoundingClientRect();
  tip.style("left", `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`).style("top", `${Math.min(event.clientY + 16, innerHeight - box.height - 8)}px`);
}

function linkTip(l) {
  const ports = l.edges.map(e => e.port ? ":" + e.port : "several ports").slice(0, 5).join(" ");
  const lines = [["name", `${l.source.data.label} → ${l.target.data.label}`], ["more", `${ports} · ${number(l.tries)}× · ${size(l.bytes)}`]];
  if (l.slowest) lines.push(["more", "p99 " + duration(l.slowest)]);
  return lines.concat(l.edges.flatMap(causesOf).slice(0, 4).map(c => ["fault", c]));
}

function nodeTip(n) {
  const more = [kindOf(n.data), n.data.scope].filter(t => t).join(" · ");
  return [["name", n.data.label], ["more", more], ["more", `${plural(n.in.length, "client")}, ${plural(n.out.length, "server")}`]];
}

// ---- the panel ----

function choose(x) {
  const ends = !x ? [] : isLink(x) ? [x.source, x.target] : [x];
  view.chosen = x;
  if (ends.some(n => !view.shown.has(n))) show(ends);
  light(x);
  showPanel();
}

function addRows(panel, title, links, name) {
  if (!links.length) return;
  panel.append("h3").text(title);
  const rows = panel.append("div").selectAll("button").data(links.slice(0, 30)).join("button").attr("class", "row").attr("type", "button");
  rows.append("span").attr("class", "what").text(name);
  rows.append("span").attr("class", "much").text(l => l.bytes ? size(l.bytes) : number(l.tries) + "×");
  rows.filter(l => l.errors).append("span").attr("class", "fault").text(l => l.edges.flatMap(causesOf).join(", "));
  rows.on("click", (_, l) => choose(l)).on("pointerenter", (_, l) => light(l)).on("pointerleave", leave);
}

function addTable(panel, rows) {
  const lines = panel.append("table").selectAll("tr").data(rows).join("tr").attr("class", r => r[2] ? "fault" : null);
  lines.append("th").text(r => r[0]);
  lines.append("td").text(r => r[1]);
}

const timesOf = (what, t) => !t || !t.count ? [] : [[what, number(t.count)], ["\u2003p50, p99", t.p99_ns === undefined ? `mean ${duration(t.mean_ns)}` : `${duration(t.p50_ns)}, ${duration(t.p99_ns)}`],
                                                   ["\u2003longest", duration(t.max_ns)]];

function showLink(panel, l) {
  panel.append("h2").text(`${l.source.data.label} → ${l.target.data.label}`);
  panel.append("div").attr("class", "about").text(plural(l.edges.length, "port"));
  for (const e of l.edges) {
    const part = panel.append("div").attr("class", "edge");
    part.append("b").text(e.port ? `port ${e.port}` : "several ports");
    addTable(part, [["connections", number(e.connections)], ...timesOf("connect", e.connect), ...timesOf("answers", e.answers), ...timesOf("DNS queries", e.queries),
                    ["client sent", size(e.sent_bytes)], ["client received", size(e.received_bytes)], ...(e.srtt_ns === undefined ? [] : [["round trip, mean", duration(e.srtt_ns)]]),
                    ["retransmits", number(e.retransmits)], ...causesOf(e).map(c => [c, "", true])]);
  }
}

function showNode(panel, n) {
  const d = n.data;
  panel.append("h2").text(d.label);
  panel.append("div").attr("class", "about").text([kindOf(d), d.scope, d.container, ...(d.comms || [])].filter(t => t).join(" · "));
  for (const service of n.services) {
    panel.append("h3").text(`Port ${service.port}, as the server says`);
    addTable(panel, timesOf("answers", service.answers).concat(service.answers && service.answers.errors ? [["without an answer", number(service.answers.errors), true]] : []));
  }
  addRows(panel, "Its servers", d3.sort(n.out, l => -l.weight), l => l.target.data.label);
  addRows(panel, "Its clients", d3.sort(n.in, l => -l.weight), l => l.source.data.label);
}

function showPanel() {
  const panel = d3.select("#panel"), name = l => `${l.source.data.label} → ${l.target.data.label}`;
  panel.selectAll("*").remove();
  if (view.chosen) return isLink(view.chosen) ? showLink(panel, view.chosen) : showNode(panel, view.chosen);
  addRows(panel, "Errors", d3.sort(view.links.filter(l => l.errors), l => -l.errors), name);
  addRows(panel, "Slowest", d3.sort(view.links.filter(l => l.slowest >= SLOW_NS), l => -l.slowest), l => name(l));
  addRows(panel, "Widest", d3.sort(view.links, l => -l.weight), name);
  panel.select("h3").style("margin-top", "0");
}

function showAbout() {
  const d = view.data, about = d3.select("#about");
  const part = (n, what) => { about.append("b").text(number(n)); about.append("span").text(` ${what}${n === 1 ? "" : "s"}, `); };
  if (d.host) { about.append("b").text(d.host); about.append("span").text(" · "); }
  part(d.nodes.length, "node");
  part(d.edges.length, "edge");
  part(d.connections, "connection");
  about.append("b").classed("bad", d.failed > 0).text(number(d.failed));
  about.append("span").text(` failed · ${new Date(d.from_ns / 1e6).toLocaleString()}, ${duration(d.to_ns - d.from_ns)}`);
  const more = d.nodes.length > SHOWN_MAX ? [`the picture holds ${SHOWN_MAX} of ${number(d.nodes.length)} nodes, the heaviest; search brings others`] : [];
  d3.select("#notes").text(more.concat(d.notes).join(" · "));
}

function listen() {
  const field = document.getElementById("search");
  field.addEventListener("input", search);
  d3.select("#fit").on("click", () => fit());
  addEventListener("resize", () => fit(.45));
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && event.target !== field) {
      event.preventDefault();
      field.focus();
    } else if (event.key === "Escape") {
      if (event.target === field) { field.value = ""; field.blur(); search(); } else choose(null);
    }
  });
}

async function begin() {
  makeModel(await readData());
  showAbout();
  show(view.nodes);
  showPanel();
  listen();
  document.body.dataset.ready = "true";
}

begin().catch(problem => {
  d3.select("main").attr("hidden", "");
  d3.select("body").insert("div", "footer").attr("class", "problem").attr("role", "alert").text(problem.message);
  throw problem;
});
