// SPDX-License-Identifier: Apache-2.0
// The flame graph on a canvas of the size of its window: only what is to be seen is drawn, so that a tree of some hundred
// thousand nodes follows the pointer. A node narrower than half a pixel is left out with all that is above it.
"use strict";

const ROW = 20, NARROW = 0.5, LABEL = 30;

function hash(text) {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  return (h ^ h >>> 15) >>> 0;
}

// A cool hue for each library, the heaviest the farthest apart: steps of the golden ratio between green and violet.
function hueLibraries(model) {
  const weights = new Map();
  model.frame.forEach((frame, node) => {
    if (frame >= 0) weights.set(model.libraries[frame], (weights.get(model.libraries[frame]) ?? 0) + model.selfWeight[node]);
  });
  return new Map([...weights].sort((a, b) => b[1] - a[1]).map(([library], i) => [library, 150 + (0.55 + i * 0.618034) % 1 * 180]));
}

// Fill of each frame. Warm: the kernel. Cool: a library. Paler: inlined into it. Gold: made at run time. Grey: nobody knows.
function colourFrames(model, dark) {
  const light = dark ? 38 : 82, chroma = dark ? 32 : 32, hues = hueLibraries(model);
  return model.names.map((name, i) => {
    const shade = (hash(name) % 7 - 3) * (dark ? 1.1 : 1.3), kind = model.kinds[i];
    const hue = hues.get(model.libraries[i]) ?? 200;
    switch (kind) {
    case KERNEL: return d3.hcl(48 + hash(name) % 14, dark ? 46 : 52, light + shade - 2).formatHex();
    case INLINE: return d3.hcl(hue, chroma * 0.55, light + shade + (dark ? -7 : 8)).formatHex();
    case JIT: return d3.hcl(88, dark ? 44 : 58, light + shade + 4).formatHex();
    case CAUSE: return d3.hcl(5, dark ? 42 : 40, light + shade).formatHex();
    case PROCESS: return dark ? "#4a5361" : "#cfd6df";
    case UNKNOWN: return d3.hcl(hue, 6, light + shade).formatHex();
    case NOTE: return dark ? "#3a3f47" : "#e3e3df";
    default: return d3.hcl(hue, chroma, light + shade).formatHex();
    }
  });
}

// Blue: less than before. Red: more. The colour tells how much of the two is change.
function colourChange(dark) {
  const middle = dark ? "#454b55" : "#e6e6e3", less = dark ? "#2f7fd0" : "#5b9ce0", more = dark ? "#d0493c" : "#ec6a5c";
  const down = d3.interpolateRgb(middle, less), up = d3.interpolateRgb(middle, more);
  return (before, after) => {
    const change = before + after > 0 ? (after - before) / (after + before) : 0;
    return change < 0 ? down(Math.sqrt(-change)) : up(Math.sqrt(change));
  };
}

class Flame {
  constructor(canvas, pane, spacer, model) {
    Object.assign(this, { canvas, pane, spacer, model, view: [0, 1], zoom: 0, focus: -1, hover: -1, icicle: true, found: null });
    this.context = canvas.getContext("2d");
    this.widths = new Map();
    pane.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.resize()).observe(pane);
  }

  setTheme(dark) {
    const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name).trim();
    this.fills = colourFrames(this.model, dark);
    this.change = colourChange(dark);
    this.ink = colour("--frame-ink");
    this.root = colour("--root");
    this.paper = colour("--pane");
    this.match = colour("--match");
    this.matchInk = colour("--match-ink");
    this.edge = colour("--ink");
    this.accent = colour("--accent");
    this.dim = dark ? 0.36 : 0.36;
  }

  // New sums or widths; the zoom stays where its node still has something.
  setLayout(layout, sums) {
    Object.assign(this, { layout, sums });
    while (this.zoom && !layout.width[this.zoom]) this.zoom = this.model.parent[this.zoom];
    if (this.focus > 0 && !layout.width[this.focus]) this.focus = -1;
    this.view = this.spanOf(this.zoom);
    this.measureDepth();
    this.draw();
  }

  spanOf(node) {
    return [this.layout.x[node], this.layout.x[node] + (this.layout.width[node] || 1)];
  }

  // Rows that the view needs: the deepest node in it that is wide enough to be seen.
  measureDepth() {
    const { model, layout } = this, [from, to] = this.spanOf(this.zoom), least = (to - from) * NARROW / Math.max(this.pane.clientWidth, 1);
    let deepest = 0;
    for (let i = 0; i < model.n;) {
      const seen = layout.width[i] >= least && layout.x[i] < to && layout.x[i] + layout.width[i] > from;
      if (seen) deepest = Math.max(deepest, model.depth[i]);
      i = seen ? i + 1 : model.end[i];
    }
    const before = this.height, atBottom = this.pane.scrollTop + this.pane.clientHeight >= (before ?? 0) - 2;
    this.height = (deepest + 1) * ROW + 8;
    this.spacer.style.setProperty("height", `${Math.max(this.height, this.pane.clientHeight)}px`);
    if (!this.icicle && atBottom) this.pane.scrollTop = this.height;
  }

  setIcicle(icicle) {
    this.icicle = icicle;
    this.measureDepth();
    this.pane.scrollTop = icicle ? 0 : this.height;
    this.draw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.pane.clientWidth * ratio);
    this.canvas.height = Math.round(this.pane.clientHeight * ratio);
    this.canvas.style.setProperty("width", `${this.pane.clientWidth}px`);
    this.canvas.style.setProperty("height", `${this.pane.clientHeight}px`);
    if (this.layout) {
      this.measureDepth();
      this.draw();
    }
  }

  // Goes there in a moment, or at once for who does not like motion.
  zoomTo(node) {
    this.zoom = node;
    this.timer?.stop();
    this.measureDepth();
    const target = this.spanOf(node), step = d3.interpolateArray(this.view.slice(), target);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.view = target;
      this.draw();
      return;
    }
    this.timer = d3.timer(elapsed => {
      const t = Math.min(1, elapsed / 220);
      this.view = t < 1 ? step(d3.easeCubicInOut(t)).slice() : target;
      this.draw();
      if (t === 1) this.timer.stop();
    });
  }

  rowTop(depth) {
    const bottom = Math.max(this.height, this.pane.clientHeight);
    return (this.icicle ? depth * ROW + 2 : bottom - (depth + 1) * ROW - 4) - this.pane.scrollTop;
  }

  draw() {
    if (!this.layout || this.planned) return;
    this.planned = requestAnimationFrame(() => {
      this.planned = 0;
      this.paint();
    });
  }

  paint() {
    const { context: c, model, layout, pane } = this, ratio = window.devicePixelRatio || 1;
    const width = pane.clientWidth, height = pane.clientHeight, scale = width / (this.view[1] - this.view[0]);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = this.paper;
    c.fillRect(0, 0, width, height);
    c.textBaseline = "middle";
    c.font = this.font = "12px " + getComputedStyle(document.body).fontFamily;
    this.drawn = 0;
    for (let i = 0; i < model.n;) {
      const left = (layout.x[i] - this.view[0]) * scale, wide = layout.width[i] * scale;
      if (wide < NARROW || left > width || left + wide < 0) {
        i = model.end[i];
        continue;
      }
      const top = this.rowTop(model.depth[i]);
      if (top > -ROW && top < height) this.paintNode(i, Math.max(left, 0), Math.min(left + wide, width), top);
      i++;
    }
    for (const [node, colour] of [[this.hover, this.edge], [this.focus, this.accent]]) this.paintEdge(node, colour, scale, width);
  }

  fillOf(node) {
    const frame = this.model.frame[node];
    if (this.model.differs)
      return this.change(this.sums[0].total[node] / (this.sums[0].total[0] || 1), this.sums[1].total[node] / (this.sums[1].total[0] || 1));
    return frame < 0 ? this.root : this.fills[frame];
  }

  paintNode(node, left, right, top) {
    const c = this.context, frame = this.model.frame[node], hit = this.found && frame >= 0 && this.found[frame];
    const outside = node !== this.zoom && node < this.zoom; // a caller of what is zoomed to
    this.drawn++;
    c.globalAlpha = this.found && !hit ? this.dim : outside ? 0.6 : 1;
    c.fillStyle = hit ? this.match : this.fillOf(node);
    c.fillRect(left, top, Math.max(right - left - (right - left > 3 ? 1 : 0), 0.5), ROW - 1);
    if (right - left > LABEL) {
      c.globalAlpha = this.found && !hit ? 0.55 : 1;
      c.fillStyle = hit ? this.matchInk : this.ink;
      this.paintLabel(frame < 0 ? "all" : this.model.names[frame], frame >= 0 && this.model.kinds[frame] === INLINE, left + 5, right - 6, top + ROW / 2);
    }
    c.globalAlpha = 1;
  }

  paintLabel(name, slanted, left, right, middle) {
    const c = this.context;
    if (slanted) c.font = "italic " + this.font;
    let wide = this.widths.get(name);
    if (wide === undefined) this.widths.set(name, wide = c.measureText(name).width);
    if (wide > right - left) {
      const letters = Math.floor(name.length * (right - left - 11) / wide);
      name = letters > 1 ? name.slice(0, letters) + "…" : "";
    }
    if (name) c.fillText(name, left, middle);
    if (slanted) c.font = this.font;
  }

  paintEdge(node, colour, scale, width) {
    if (node < 0 || !this.layout.width[node]) return;
    const left = Math.max((this.layout.x[node] - this.view[0]) * scale, 0);
    const right = Math.min((this.layout.x[node] + this.layout.width[node] - this.view[0]) * scale, width);
    if (right < left) return;
    this.context.strokeStyle = colour;
    this.context.lineWidth = 2;
    this.context.strokeRect(left + 1, this.rowTop(this.model.depth[node]) + 1, Math.max(right - left - 3, 1), ROW - 3);
  }

  // The node under a point of the canvas, or -1.
  nodeAt(px, py) {
    const { model, layout } = this, x = this.view[0] + px / this.pane.clientWidth * (this.view[1] - this.view[0]);
    const offset = this.rowTop(0), depth = this.icicle ? Math.floor((py - offset) / ROW) : -Math.floor((py - offset) / ROW);
    for (let i = 0; i < model.n && depth >= 0;) {
      const inside = x >= layout.x[i] && x < layout.x[i] + layout.width[i];
      if (inside && model.depth[i] === depth) return i;
      i = inside ? i + 1 : model.end[i];
    }
    return -1;
  }

  // Brings the row of a node into the window.
  reveal(node) {
    const top = this.rowTop(this.model.depth[node]);
    if (top < 0) this.pane.scrollTop += top - ROW;
    else if (top + ROW > this.pane.clientHeight) this.pane.scrollTop += top + 2 * ROW - this.pane.clientHeight;
  }
}
