// SPDX-License-Identifier: Apache-2.0
// What a person does with the page: each act changes `state`, and update() makes everything follow from it.
//
// Names come from hostile processes. They are shown as text only: d3's text(), textContent, and the canvas.
"use strict";

const MEASURES = { cpu: { title: "On CPU", unit: "CPUs busy" }, offcpu: { title: "Off CPU", unit: "threads waiting" }, events: { title: "Events", unit: "events" } };
const GROUPS_SHOWN = 300;

let model, flame;
const state = { measure: "cpu", by: "name", chosen: new Set(), ranges: [], widths: "both", pattern: "", icicle: true };
const view = { grouping: null, sums: null, strips: [] };

const percent = x => x >= 0.9995 ? "100 %" : d3.format(x < 0.0995 ? ".2f" : ".1f")(100 * x) + " %";
const points = x => d3.format("+.2f")(100 * x) + " points";

function amount(value, measure = state.measure) {
  if (measure === "events") return d3.format(",")(value);
  const s = value / 1e9;
  if (s === 0) return "0 s";
  if (s >= 600) return d3.format(",.1f")(s / 60) + " min";
  if (s >= 1) return d3.format(".2f")(s) + " s";
  return s >= 1e-3 ? d3.format(".1f")(s * 1e3) + " ms" : d3.format(".1f")(s * 1e6) + " µs";
}

function duration(ms) {
  const s = ms / 1000;
  return s >= 7200 ? d3.format(".1f")(s / 3600) + " h" : s >= 120 ? d3.format(".1f")(s / 60) + " min" : d3.format(s < 10 ? ".2f" : ".1f")(s) + " s";
}

// ---- everything follows from the state ----

function update({ keep = false } = {}) {
  view.sums = sumUp(model, { measure: state.measure, ranges: state.ranges, grouping: view.grouping, chosen: state.chosen });
  if (!keep) flame.zoom = 0;
  flame.setLayout(layOut(model, view.sums, state.widths), view.sums);
  showSegments();
  showGroups();
  showStrips();
  showFound();
  showLegend();
  showDetail(flame.focus >= 0 ? flame.focus : flame.zoom);
  showButtons();
}

function setSegment(id, rows, current, choose) {
  d3.select(id).selectAll("button").data(rows, d => d[0]).join("button").attr("type", "button").attr("data-value", d => d[0])
    .attr("aria-pressed", d => d[0] === current).text(d => d[1]).on("click", (_, d) => choose(d[0]));
}

function showSegments() {
  setSegment("#measures", model.measures.map(m => [m, MEASURES[m].title]), state.measure, m => act({ measure: m }));
  setSegment("#shapes", [["icicle", "Icicle"], ["flame", "Flame"]], state.icicle ? "icicle" : "flame", shape => setShape(shape === "icicle"));
  if (model.differs)
    setSegment("#widths", [["both", "Both"], ["before", "Before"], ["after", "After"]], state.widths, widths => act({ widths }, true));
  d3.select("#widths").attr("hidden", model.differs ? null : "");
  setSegment("#groupings", view.groupings.map(by => [by, GROUPS[by].title]), state.by, setGrouping);
}

function act(change, keep = false) {
  Object.assign(state, change);
  update({ keep });
}

function setShape(icicle) {
  state.icicle = icicle;
  flame.setIcicle(icicle);
  showSegments();
}

function setGrouping(by) {
  state.by = by;
  state.chosen = new Set();
  view.grouping = groupThreads(model, by);
  update({ keep: true });
}

function showAbout() {
  const [before, after] = model.sides, about = d3.select("#about"), time = d3.timeFormat("%e %B %Y, %H:%M:%S");
  about.append("b").text(model.host || "");
  const span = side => `${time(new Date(side.from)).trim()}, ${duration(side.to - side.from)}`;
  about.append("span").text(after ? ` · before: ${before.label} · after: ${after.label}` : ` · ${span(before)} · ${before.label}`);
  document.title = `${model.host ? model.host + " · " : ""}sonde flame`;
  d3.select("#notes").text(model.notes.join(" "));
}

function showLegend() {
  const legend = d3.select("#legend").html("");
  const entry = (colour, text, share, title) => {
    const span = legend.append("span").attr("title", title ?? null);
    span.append("i").style("background", colour);
    span.append("span").text(text);
    span.append("b").text(share);
  };
  if (model.differs) {
    const steps = d3.range(-1, 1.01, 0.25).map(t => flame.change((1 - t) / 2, (1 + t) / 2));
    legend.append("span").text("less");
    legend.append("i").attr("class", "change").style("align-self", "center").style("background", `linear-gradient(90deg, ${steps.join(", ")})`);
    legend.append("span").text("more than before");
    return;
  }
  const shares = new Map(), examples = new Map(), self = view.sums[0].self;
  for (let i = 1; i < model.n; i++) {
    if (!self[i]) continue;
    const frame = model.frame[i], kind = model.kinds[frame];
    const name = kind === KERNEL ? "kernel" : kind === JIT ? "JIT" : kind === CAUSE ? model.names[frame] : model.libraries[frame];
    if (!name) continue;
    shares.set(name, (shares.get(name) ?? 0) + self[i]);
    if (!examples.has(name) || kind !== INLINE) examples.set(name, frame);
  }
  const total = view.sums[0].total[0] || 1;
  for (const [name, value] of [...shares].sort((a, b) => b[1] - a[1]).slice(0, 12))
    entry(flame.fills[examples.get(name)], name.split("/").pop() || name, percent(value / total), `${name}: ${percent(value / total)} without callees`);
}

// ---- groups ----

function showGroups() {
  const sums = view.sums.map(s => s.groups), totals = sums.map(s => d3.sum(s) || 1), last = sums.length - 1;
  const share = (side, g) => sums[side][g] / totals[side];
  const rows = d3.range(view.grouping.groups.length).filter(g => sums.some(s => s[g] > 0) || state.chosen.has(g))
    .sort((a, b) => d3.max(sums, (_, s) => share(s, b)) - d3.max(sums, (_, s) => share(s, a)));
  const list = d3.select("#groups").classed("some", state.chosen.size > 0), most = Math.max(share(last, rows[0]) || 0, share(0, rows[0]) || 0) || 1;
  const items = list.selectAll("li.group").data(rows.slice(0, GROUPS_SHOWN), g => view.grouping.by + g).join(enter => {
    const button = enter.append("li").attr("class", "group").append("button").attr("type", "button").on("click", (event, g) => chooseGroup(g, event.ctrlKey || event.metaKey || event.shiftKey));
    for (const part of ["bar", "label", "share"]) button.append("span").attr("class", part);
    return button.select(function () { return this.parentNode; });
  }).order();
  const button = items.select("button").attr("aria-pressed", g => state.chosen.has(g)).attr("title", g => view.grouping.groups[g].title + " · Ctrl adds to the choice");
  button.select(".bar").style("width", g => `${100 * share(last, g) / most}%`);
  button.select(".label").text(g => view.grouping.groups[g].label);
  button.select(".share").text(g => last ? points(share(1, g) - share(0, g)).replace(" points", "") : percent(share(0, g)))
    .attr("class", g => "share" + (!last ? "" : share(1, g) > share(0, g) ? " rise" : " fall"));
  list.selectAll("li.more").data(rows.length > GROUPS_SHOWN ? [rows.length - GROUPS_SHOWN] : []).join("li").attr("class", "more").raise()
    .text(n => `and ${n} more, smaller`);
}

function chooseGroup(group, add) {
  const chosen = add ? new Set(state.chosen) : new Set();
  if (state.chosen.has(group) && (add || state.chosen.size === 1)) chosen.delete(group);
  else chosen.add(group);
  act({ chosen }, true);
}

// ---- time ----

// One strip for each side: what there was in each bucket, what of it is chosen, and a brush over it.
function makeStrips() {
  const strips = d3.select("#times").selectAll(".strip").data(model.sides).join("div").attr("class", "strip");
  const text = strips.append("div").attr("class", "text");
  for (const part of ["b", "span", "i"]) text.append(part);
  view.strips = strips.nodes().map((node, side) => {
    const svg = d3.select(node).append("svg").attr("role", "img").attr("aria-label", "Amount over time; drag to choose a span");
    const strip = { side, svg, text: d3.select(node).select(".text"), all: svg.append("path").attr("class", "all"), chosen: svg.append("path").attr("class", "chosen"),
                    axis: svg.append("g"), holder: svg.append("g").attr("class", "brush") };
    strip.brush = d3.brushX().on("brush end", event => brushed(strip, event));
    return strip;
  });
  new ResizeObserver(placeStrips).observe(document.getElementById("times"));
}

const STRIP = { top: 6, bottom: 52, right: 30 };

function placeStrips() {
  for (const strip of view.strips) {
    const { from, step, buckets } = model.sides[strip.side], width = strip.svg.node().clientWidth || 600;
    strip.x = d3.scaleTime([new Date(from), new Date(from + step * buckets)], [0, width - STRIP.right]);
    strip.axis.attr("transform", `translate(0,${STRIP.bottom})`).call(d3.axisBottom(strip.x).ticks(width / 130).tickSizeOuter(0).tickFormat(d3.timeFormat(step * buckets > 36e5 ? "%H:%M" : "%H:%M:%S")));
    strip.holder.call(strip.brush.extent([[0, STRIP.top], [width - STRIP.right, STRIP.bottom]]));
    moveBrush(strip);
  }
  if (view.sums) showStrips();
}

function moveBrush(strip) {
  const range = state.ranges[strip.side], { from, step } = model.sides[strip.side];
  strip.holder.call(strip.brush.move, range ? range.map(bucket => strip.x(new Date(from + step * bucket))) : null);
}

// Whole buckets, at least one. Moves that come from here, not from the pointer, are of the state already.
function brushed(strip, event) {
  if (!event.sourceEvent) return;
  const { from, step, buckets } = model.sides[strip.side];
  let range = null;
  if (event.selection) {
    const [a, b] = event.selection.map(px => (strip.x.invert(px) - from) / step);
    const first = Math.min(Math.max(Math.round(a), 0), buckets - 1);
    range = [first, Math.min(Math.max(Math.round(b), first + 1), buckets)];
  }
  setRange(strip.side, range);
  if (event.type === "end") moveBrush(strip);
}

function setRange(side, range) {
  if (String(state.ranges[side]) === String(range)) return;
  state.ranges[side] = range;
  view.pending ??= requestAnimationFrame(() => {
    view.pending = undefined;
    update({ keep: true });
  });
}

// By keys: moves the chosen span, or its end.
function stepRange(by, resize) {
  for (const strip of view.strips) {
    const { buckets } = model.sides[strip.side], width = Math.max(1, Math.round(buckets / 10));
    let [from, to] = state.ranges[strip.side] ?? (by > 0 ? [-by, width - by] : [buckets - width - by, buckets - by]);
    if (resize) to = Math.min(Math.max(to + by, from + 1), buckets);
    else if (from + by >= 0 && to + by <= buckets) [from, to] = [from + by, to + by];
    setRange(strip.side, [Math.max(from, 0), to]);
    moveBrush(strip);
  }
}

function showStrips() {
  for (const strip of view.strips) {
    const side = model.sides[strip.side], sum = view.sums[strip.side], rate = state.measure === "events" ? 1 : side.step * 1e6;
    const most = d3.max(sum.buckets) / rate || 1, y = d3.scaleLinear([0, most], [STRIP.bottom, STRIP.top]);
    const area = d3.area((_, i) => strip.x?.(new Date(side.from + side.step * Math.min(i, side.buckets))), STRIP.bottom, v => y(v / rate)).curve(d3.curveStepAfter);
    if (!strip.x) continue;
    strip.all.attr("d", area([...sum.buckets, sum.buckets.at(-1)]));
    strip.chosen.attr("d", area([...sum.chosen, sum.chosen.at(-1)]));
    const range = state.ranges[strip.side], name = model.differs ? ["Before", "After"][strip.side] : "Total";
    strip.text.select("b").text(`${name}: ${amount(sum.total[0])}`);
    const span = range ? `${duration(side.step * (range[1] - range[0]))} of ${duration(side.to - side.from)}` : duration(side.to - side.from);
    strip.text.select("span").text(`in ${span}, at most ${d3.format(".3~g")(most)} ${MEASURES[state.measure].unit}`);
    strip.text.select("i").text(range ? "" : "Drag over the strip to choose a time.");
  }
}

// ---- frames ----

function shareOf(node, side) {
  return view.sums[side].total[node] / (view.sums[side].total[0] || 1);
}

function nameOf(node) {
  return node > 0 ? model.names[model.frame[node]] : "all";
}

function originOf(node) {
  if (node <= 0) return "";
  const frame = model.frame[node], library = model.libraries[frame], build = model.buildIds[frame];
  const kind = model.kinds[frame] ? KINDS[model.kinds[frame]] : "";
  return [kind, library === "[k]" ? "" : library, build && `build id ${build}`].filter(Boolean).join(" · ");
}

function showDetail(node) {
  const detail = d3.select("#detail").text("");
  if (node < 0) return;
  detail.append("b").text(nameOf(node));
  const sums = view.sums.map(s => s.total[node]), origin = originOf(node);
  const numbers = model.differs ? `${percent(shareOf(node, 0))} before, ${percent(shareOf(node, 1))} after, ${points(shareOf(node, 1) - shareOf(node, 0))}`
    : `${amount(sums[0])}, ${percent(shareOf(node, 0))}${node > 0 ? `; itself ${amount(view.sums[0].self[node])}` : ""}`;
  detail.append("span").text(`${origin ? "  " + origin : ""}  ·  ${numbers}`);
}

function tipRows(node) {
  const rows = [], parent = model.parent[node];
  for (const side of model.sides.keys()) {
    const sum = view.sums[side], name = model.differs ? ["before", "after"][side] : "with callees";
    rows.push([name, amount(sum.total[node]), percent(shareOf(node, side))]);
    if (!model.differs) {
      rows.push(["itself", amount(sum.self[node]), percent(sum.self[node] / (sum.total[0] || 1))]);
      if (node > 0) rows.push(["of its caller", "", percent(sum.total[node] / (sum.total[parent] || 1))]);
      if (flame.zoom > 0) rows.push(["of what is zoomed to", "", percent(sum.total[node] / (sum.total[flame.zoom] || 1))]);
      if (state.measure === "cpu" && model.period) rows.push(["samples", d3.format(",")(Math.round(sum.total[node] / model.period)), ""]);
    }
  }
  if (model.differs) rows.push(["change", "", points(shareOf(node, 1) - shareOf(node, 0))]);
  return rows;
}

function showTip(node, event) {
  const tip = d3.select("#tip").attr("hidden", node < 0 ? "" : null);
  if (node < 0) return;
  tip.text("");
  tip.append("div").attr("class", "name").text(nameOf(node));
  tip.append("div").attr("class", "from").text(originOf(node));
  const rows = tip.append("table").selectAll("tr").data(tipRows(node)).join("tr");
  rows.append("th").text(d => d[0]);
  rows.append("td").text(d => d[1]);
  rows.append("td").text(d => d[2]);
  const box = tip.node().getBoundingClientRect(), beyond = event.clientX + 16 + box.width > innerWidth, below = event.clientY + 18 + box.height > innerHeight;
  tip.style("left", `${Math.max(4, beyond ? event.clientX - box.width - 12 : event.clientX + 16)}px`)
    .style("top", `${Math.max(4, below ? event.clientY - box.height - 10 : event.clientY + 18)}px`);
}

function hover(node, event) {
  if (node !== flame.hover) {
    flame.hover = node;
    flame.draw();
  }
  showTip(node, event);
}

function zoom(node) {
  flame.zoomTo(node);
  showFound();
  showDetail(node);
  showButtons();
}

function showButtons() {
  document.getElementById("back").disabled = flame.zoom === 0;
  document.getElementById("reset").disabled = !(flame.zoom || state.pattern || state.chosen.size || state.ranges.some(Boolean));
}

function search(pattern) {
  state.pattern = pattern;
  flame.found = findFrames(model, pattern);
  showFound();
  showButtons();
  flame.draw();
}

function showFound() {
  const text = flame.found ? model.sides.map((_, side) => {
    const total = view.sums[side].total;
    return percent(sumFound(model, flame.found, total, flame.zoom) / (total[flame.zoom] || 1));
  }).join(" → ") : "";
  d3.select("#found").text(text);
}

// The next found frame behind the focused one that is there at all.
function findNext() {
  if (!flame.found) return;
  for (let step = 1; step <= model.n; step++) {
    const node = (Math.max(flame.focus, 0) + step) % model.n;
    if (node && flame.found[model.frame[node]] && flame.layout.width[node] && !flame.found[model.frame[model.parent[node]]]) return setFocus(node);
  }
}

// Clears one thing after the other.
function clearOne() {
  if (state.pattern) {
    document.getElementById("search").value = "";
    search("");
  } else if (flame.zoom) {
    zoom(0);
  } else {
    clearAll();
  }
}

function clearAll() {
  document.getElementById("search").value = "";
  state.pattern = "";
  flame.found = null;
  flame.focus = -1;
  state.chosen = new Set();
  state.ranges = model.sides.map(() => null);
  view.strips.forEach(moveBrush);
  update();
}

// ---- keys and pointer ----

function setFocus(node) {
  flame.focus = node;
  const [from, to] = flame.spanOf(flame.zoom), [a, b] = flame.spanOf(node);
  if (a < from || b > to * (1 + 1e-9)) zoom(0);
  flame.reveal(node);
  showDetail(node);
  flame.draw();
}

function childrenOf(node) {
  const children = [];
  for (let i = node + 1; i < model.end[node]; i = model.end[i]) if (flame.layout.width[i] > 0) children.push(i);
  return children;
}

function moveFocus(key) {
  const node = flame.focus < 0 ? flame.zoom : flame.focus, inward = state.icicle ? "ArrowDown" : "ArrowUp";
  if (key === inward) {
    const child = d3.greatest(childrenOf(node), i => flame.layout.width[i]);
    if (child !== undefined) setFocus(child);
  } else if (key === "ArrowUp" || key === "ArrowDown") {
    if (node > 0) setFocus(model.parent[node]);
  } else if (node > 0) {
    const siblings = childrenOf(model.parent[node]), at = siblings.indexOf(node) + (key === "ArrowRight" ? 1 : -1);
    if (siblings[at] !== undefined) setFocus(siblings[at]);
  }
}

const KEYS = {
  "/": () => document.getElementById("search").focus(),
  "?": () => document.getElementById("keys").showModal(),
  i: () => setShape(!state.icicle),
  m: () => model.measures.length > 1 && act({ measure: model.measures[(model.measures.indexOf(state.measure) + 1) % model.measures.length] }, true),
  g: () => setGrouping(view.groupings[(view.groupings.indexOf(state.by) + 1) % view.groupings.length]),
  ",": () => stepRange(-1, false), ".": () => stepRange(1, false), "<": () => stepRange(-1, true), ">": () => stepRange(1, true),
  Escape: clearOne,
  Backspace: () => flame.zoom && zoom(model.parent[flame.zoom]),
};
const PANE_KEYS = { Enter: () => flame.focus >= 0 && zoom(flame.focus), " ": () => flame.focus >= 0 && zoom(flame.focus),
                    ArrowUp: moveFocus, ArrowDown: moveFocus, ArrowLeft: moveFocus, ArrowRight: moveFocus, Home: () => setFocus(0) };

function listen() {
  const canvas = document.getElementById("canvas"), pane = document.getElementById("pane"), field = document.getElementById("search");
  canvas.addEventListener("pointermove", event => hover(flame.nodeAt(event.offsetX, event.offsetY), event));
  canvas.addEventListener("pointerleave", event => hover(-1, event));
  canvas.addEventListener("click", event => {
    const node = flame.nodeAt(event.offsetX, event.offsetY);
    if (node < 0) return;
    flame.focus = node;
    zoom(node === flame.zoom && node ? model.parent[node] : node);
  });
  field.addEventListener("input", () => search(field.value));
  field.addEventListener("keydown", event => {
    if (event.key === "Enter") findNext();
    if (event.key !== "Escape") return;
    event.stopPropagation(); // the next one clears it
    pane.focus();
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target === field && event.key !== "Escape") return;
    const key = (document.activeElement === pane || document.activeElement === document.body) && PANE_KEYS[event.key] || KEYS[event.key];
    if (!key) return;
    event.preventDefault();
    key(event.key);
  });
  d3.select("#back").on("click", () => zoom(model.parent[flame.zoom]));
  d3.select("#reset").on("click", clearAll);
  d3.select("#help").on("click", KEYS["?"]);
}

function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    flame.setTheme(dark.matches);
    flame.draw();
    if (view.sums) showLegend();
  };
  dark.addEventListener("change", apply);
  apply();
}

async function begin() {
  model = makeModel(await readData());
  flame = new Flame(document.getElementById("canvas"), document.getElementById("pane"), document.getElementById("spacer"), model);
  state.measure = model.measures.includes(model.open) ? model.open : model.measures[0];
  state.ranges = model.sides.map(() => null);
  view.groupings = Object.keys(GROUPS).filter(by => !["container", "cgroup"].includes(by) || model.threads.some(t => t[by]));
  view.grouping = groupThreads(model, state.by);
  followTheme();
  showAbout();
  makeStrips();
  listen();
  flame.resize();
  update();
  placeStrips();
  document.body.dataset.ready = "true";
}

begin().catch(problem => {
  d3.select("main").attr("hidden", "");
  d3.select("body").insert("div", "footer").attr("class", "problem").attr("role", "alert").text(problem.message);
  throw problem;
});
