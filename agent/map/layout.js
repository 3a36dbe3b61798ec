// SPDX-License-Identifier: Apache-2.0
// Places for nodes and ways for links: layers from left to right, clients before their servers. After Sugiyama, Tagawa and
// Toda (1981): cycles are opened, layers are longest paths, a link over several layers gets a place in each, places are
// ordered by the mean of their neighbours, and then drawn towards them as far as the room lets them.
"use strict";

const CARD = { width: 184, height: 50, gap: 20, layerGap: 116, wayHeight: 14,
               crowd: 10, small: { height: 27, gap: 7 } }; // in a layer of more cards than that, addresses of one line

// Links that go against the order in which a walk from the purest clients first finds nodes are turned, for the layers only.
function openCycles(nodes, links) {
  const state = new Map(), back = new Set();
  const order = d3.sort(nodes, n => d3.sum(n.in, l => l.weight) / (1 + d3.sum(n.out, l => l.weight)));
  for (const start of order) {
    if (state.has(start)) continue;
    const stack = [[start, 0]];
    state.set(start, "open");
    while (stack.length) {
      const top = stack[stack.length - 1], link = top[0].out[top[1]++];
      if (!link) {
        state.set(top[0], "done");
        stack.pop();
      } else if (link.source !== link.target) {
        const found = state.get(link.target);
        if (found === "open") back.add(link);
        else if (!found) {
          state.set(link.target, "open");
          stack.push([link.target, 0]);
        }
      }
    }
  }
  for (const link of links) [link.from, link.to] = back.has(link) ? [link.target, link.source] : [link.source, link.target];
}

function findLayers(nodes, links) {
  const waiting = new Map(nodes.map(n => [n, 0])), next = d3.group(links.filter(l => l.from !== l.to), l => l.from);
  for (const link of links) if (link.from !== link.to) waiting.set(link.to, waiting.get(link.to) + 1);
  const ready = nodes.filter(n => !waiting.get(n));
  for (const n of nodes) n.layer = 0;
  for (let i = 0; i < ready.length; i++)
    for (const link of next.get(ready[i]) || []) {
      link.to.layer = Math.max(link.to.layer, ready[i].layer + 1);
      waiting.set(link.to, waiting.get(link.to) - 1);
      if (!waiting.get(link.to)) ready.push(link.to);
    }
  // A client stands next to the nearest of its servers, not at the far left.
  for (const n of d3.reverse(ready)) {
    const after = next.get(n);
    if (after) n.layer = Math.max(n.layer, d3.min(after, l => l.to.layer) - 1);
  }
}

// Places by layer: cards, and ways of links that pass.
function makePlaces(nodes, links) {
  const layers = d3.range(1 + (d3.max(nodes, n => n.layer) || 0)).map(() => []);
  const crowds = d3.rollup(nodes, list => list.length > CARD.crowd, n => n.layer);
  for (const n of nodes) {
    n.small = crowds.get(n.layer) && n.in.length + n.out.length < 3;
    n.height = n.small ? CARD.small.height : Math.max(CARD.height, Math.min(240, 10 + 11 * Math.max(n.in.length, n.out.length)));
    n.place = { node: n, height: n.height, gap: n.small ? CARD.small.gap : CARD.gap, before: [], after: [], y: 0 };
    layers[n.layer].push(n.place);
  }
  for (const link of links) {
    link.ways = [];
    if (link.from === link.to) continue;
    let last = link.from.place;
    for (let layer = link.from.layer + 1; layer <= link.to.layer; layer++) {
      const place = layer === link.to.layer ? link.to.place : { height: CARD.wayHeight, gap: CARD.wayHeight, before: [], after: [], y: 0 };
      if (layer < link.to.layer) {
        layers[layer].push(place);
        link.ways.push({ place, layer });
      }
      last.after.push(place);
      place.before.push(last);
      last = place;
    }
  }
  return layers;
}

function order(layers) {
  const number = layer => layer.forEach((p, i) => p.rank = i);
  layers.forEach(number);
  for (let turn = 0; turn < 24; turn++) {
    const down = turn % 2 === 0, sequence = down ? layers.slice(1) : layers.slice(0, -1).reverse();
    for (const layer of sequence) {
      for (const p of layer) {
        const near = down ? p.before : p.after;
        p.wish = near.length ? d3.mean(near, q => q.rank) : p.rank;
      }
      layer.sort((a, b) => a.wish - b.wish || a.rank - b.rank);
      number(layer);
    }
  }
}

// Moves apart what overlaps, in sum as little as can be: neighbours that would overlap become one block, which lies at the mean
// of what its members wish (isotonic regression by pooling).
function separate(layer) {
  const blocks = [];
  for (const p of layer) {
    let block = { places: [p], wish: p.y, n: 1, height: p.height + p.gap };
    while (blocks.length) {
      const last = blocks[blocks.length - 1];
      if (last.wish + last.height <= block.wish) break;
      blocks.pop();
      block = { places: last.places.concat(block.places), n: last.n + block.n, height: last.height + block.height,
                wish: (last.wish * last.n + (block.wish - last.height) * block.n) / (last.n + block.n) };
    }
    blocks.push(block);
  }
  for (const block of blocks) {
    let y = block.wish;
    for (const p of block.places) {
      p.y = y;
      y += p.height + p.gap;
    }
  }
}

function settle(layers) {
  for (const layer of layers) {
    let y = 0;
    for (const p of layer) {
      p.y = y;
      y += p.height + p.gap;
    }
    for (const p of layer) p.y -= y / 2;
  }
  const middle = p => p.y + p.height / 2;
  for (let turn = 0; turn < 40; turn++)
    for (const layer of turn % 2 ? layers : d3.reverse(layers)) {
      for (const p of layer) {
        const near = [...p.before, ...p.after];
        if (near.length) p.y += (d3.mean(near, middle) - middle(p)) * 0.6;
      }
      separate(layer);
    }
}

function layOut(nodes, links) {
  openCycles(nodes, links);
  findLayers(nodes, links);
  const layers = makePlaces(nodes, links);
  order(layers);
  settle(layers);
  const x = layer => layer * (CARD.width + CARD.layerGap);
  for (const n of nodes) {
    n.x = x(n.layer);
    n.y = n.place.y;
  }
  attach(nodes, links);
  for (const link of links) link.points = [...link.ways.map(w => [[x(w.layer), w.place.y + w.place.height / 2], [x(w.layer) + CARD.width, w.place.y + w.place.height / 2]])];
  return [d3.max(nodes, n => n.x + CARD.width + (n.out.some(l => l.target === n) ? 64 : 0)) || 1, d3.min(nodes, n => n.y) || 0, d3.max(nodes, n => n.y + n.height) || 1];
}

// Where on a card's edge each link begins and ends, in the order of where it goes.
function attach(nodes, links) {
  const spread = (list, node, set) => list.forEach((link, i) => set(link, node.y + node.height * (i + 1) / (list.length + 1)));
  const proper = links.filter(l => l.from !== l.to);
  const after = d3.group(proper, l => l.from), before = d3.group(proper, l => l.to);
  const first = l => (l.ways[0] ? l.ways[0].place : l.to.place).y, last = l => (l.ways.length ? l.ways[l.ways.length - 1].place : l.from.place).y;
  for (const n of nodes) {
    spread(d3.sort(after.get(n) || [], first), n, (l, y) => l.beginY = y);
    spread(d3.sort(before.get(n) || [], last), n, (l, y) => l.endY = y);
  }
}

// From the right edge of `from` to the left edge of `to`; the arrow is at the server, which may be either.
function pathOf(link) {
  if (link.from === link.to) {
    const x = link.from.x + CARD.width, y = link.from.y + link.from.height / 2;
    return `M${x},${y - 10}C${x + 46},${y - 34} ${x + 46},${y + 34} ${x + 7},${y + 10}`;
  }
  const turned = link.from !== link.source, head = 7;
  let x = link.from.x + CARD.width + (turned ? head : 0), y = link.beginY, path = `M${x},${y}`;
  const curve = (x2, y2) => {
    const middle = (x + x2) / 2;
    path += `C${middle},${y} ${middle},${y2} ${x2},${y2}`;
    [x, y] = [x2, y2];
  };
  for (const [a, b] of link.points) {
    curve(...a);
    path += `L${b}`;
    [x, y] = b;
  }
  curve(link.to.x - (turned ? 0 : head), link.endY);
  return path;
}

function arrowOf(link, half) {
  const turned = link.from !== link.source, self = link.from === link.to;
  const x = self || turned ? link.from.x + CARD.width : link.to.x, y = self ? link.from.y + link.from.height / 2 + 10 : turned ? link.beginY : link.endY;
  const back = self || turned ? 9 : -9;
  return `${x},${y} ${x + back},${y - half} ${x + back},${y + half}`;
}
