// Columns over time, a colour for each name. The arrow keys, or the pointer, choose one, whose numbers are said in words.

import { h, svg } from "./dom.js";

// The least round number that is enough: 1, 2, 2.5 or 5 times a power of ten.
export function ofNumbers(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

// The same for seconds.
export function ofTimes(least) {
  if (least <= 0.5) return ofNumbers(least);
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  return steps.find((step) => step >= least) || ofNumbers(least / 3600) * 3600;
}

// names: of the series; columns: [{ label, values }]; print: a value in words; round: to the step of a scale.
export function chart({ title, names, columns, print, round, signal }) {
  const box = h("div", { class: "chart", tabindex: 0, role: "group", "aria-label": `${title}; the arrow keys go from one column to the next` });
  const said = h("p", { class: "soft", "aria-live": "polite" }, " ");
  let chosen = -1;
  const sum = (column) => column.values.reduce((a, b) => a + b, 0);
  const left = 74, right = 6, top = 8, bottom = 22;

  function draw() {
    const width = Math.max(box.clientWidth, 200), height = Math.max(box.clientHeight, 120);
    const inner = width - left - right, tall = height - top - bottom, wide = inner / columns.length;
    const most = Math.max(...columns.map(sum));
    const scale = most > 0 ? round(most / 4) * 4 : 4;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    for (let line = 0; line <= 4; line += 1) {
      const y = top + tall * (1 - line / 4);
      picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, print(scale * line / 4)));
    }
    const labels = Math.max(1, Math.ceil(columns.length / (inner / 90)));
    columns.forEach((column, index) => {
      const x = left + wide * index;
      if (index === chosen) picture.append(svg("rect", { class: "chosen", x, y: top, width: wide, height: tall }));
      let y = top + tall;
      column.values.forEach((value, series) => {
        const high = tall * value / scale;
        y -= high;
        if (high > 0) picture.append(svg("rect", { class: `bar s${series % 8}`, x: x + wide * 0.08, y, width: wide * 0.84, height: high }));
      });
      if (index % labels === 0 && x + 70 < width) picture.append(svg("text", { x, y: height - 6 }, column.label));
    });
    if (!(most > 0)) picture.append(svg("text", { class: "none", x: left + inner / 2, y: top + tall / 2, "text-anchor": "middle" }, "nothing in this time"));
    box.replaceChildren(picture);
  }

  function choose(index) {
    const next = Math.min(Math.max(index, 0), columns.length - 1);
    if (next === chosen) return;
    chosen = next;
    draw();
    const column = columns[chosen];
    const parts = names.map((name, series) => [name, column.values[series]]).filter(([, value]) => value > 0).map(([name, value]) => `${name} ${print(value)}`);
    said.textContent = `${column.label}: ${parts.join(", ") || "nothing"}`;
  }

  box.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: columns.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  box.addEventListener("pointermove", (event) => {
    const frame = box.getBoundingClientRect();
    const column = Math.floor((event.clientX - frame.left - left) / (frame.width - left - right) * columns.length);
    if (column >= 0) choose(column);
  });
  const watching = new ResizeObserver(draw);
  watching.observe(box);
  signal.addEventListener("abort", () => watching.disconnect());
  const legend = h("ul", { class: "legend" }, names.map((name, series) => h("li", {}, svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, svg("rect", { class: `s${series % 8}`, width: 1, height: 1 })), name)));
  return h("div", {}, box, said, legend);
}
