// Two uPlot charts over versions. Colours come from the stylesheet, so they follow light and dark.
"use strict";

const plebPlots = (() => {
  const PALETTE = ["--line-1", "--line-2", "--line-3", "--line-4"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (value == null ? "–" : String(+value.toPrecision(4)));

  function axes() {
    const common = {
      stroke: () => colour("--quiet"),
      grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const whole = (u, values) => values.map((v) => (Number.isInteger(v) ? v : ""));
    return [{ ...common, values: whole }, { ...common, size: 56, values: (u, vs) => vs.map(shown) }];
  }

  function targetLine(box) {
    const value = Number(box.dataset.targetValue);
    if (!box.dataset.targetMetric || !Number.isFinite(value)) return null;
    return (u) => {
      const y = Math.round(u.valToPos(value, "y", true));
      if (!(y >= u.bbox.top && y <= u.bbox.top + u.bbox.height)) return;
      const { ctx } = u;
      ctx.save();
      ctx.strokeStyle = colour("--good");
      ctx.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(u.bbox.left, y);
      ctx.lineTo(u.bbox.left + u.bbox.width, y);
      ctx.stroke();
      ctx.restore();
    };
  }

  // Room for the target's line, and never a flat axis.
  function range(box) {
    const target = box.dataset.targetMetric ? Number(box.dataset.targetValue) : null;
    return (u, low, high) => {
      if (low == null) return [0, 1];
      const all = target == null ? [low, high] : [low, high, target];
      const [bottom, top] = [Math.min(...all), Math.max(...all)];
      const pad = (top - bottom || Math.abs(top) || 1) * 0.08;
      return [bottom >= 0 ? Math.max(0, bottom - pad) : bottom - pad, top + pad];
    };
  }

  function build(box, names) {
    const line = targetLine(box);
    const series = names.map((name, i) => ({
      label: name,
      stroke: () => colour(PALETTE[i % PALETTE.length]),
      width: 2,
      spanGaps: true,
      points: { show: (u) => u.data[0].length < 40, size: 6 },
      value: (u, v, s, i) => shown(i == null ? u.data[s].findLast((x) => x != null) : v),
    }));
    const options = {
      width: box.clientWidth || 320,
      height: 260,
      scales: { x: { time: false }, y: { range: range(box) } },
      series: [{ label: "version", value: (u, v, s, i) => shown(i == null ? u.data[0].at(-1) : v) }, ...series],
      legend: { markers: { width: 3 } },
      axes: axes(),
      cursor: { points: { size: 8 } },
      hooks: line ? { draw: [line] } : {},
    };
    return new uPlot(options, [[], ...names.map(() => [])], box);
  }

  // Shows `columns`: name -> array, over the array `versions`; builds anew when names change.
  function plot(box, empty) {
    let chart = null;
    let names = [];
    new ResizeObserver(() => chart?.setSize({ width: box.clientWidth, height: 260 })).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart?.redraw(false));
    return (versions, columns) => {
      const found = Object.keys(columns);
      empty.hidden = found.length > 0;
      box.hidden = found.length === 0;
      if (found.length === 0) return;
      if (found.join("\n") !== names.join("\n")) {
        chart?.destroy();
        names = found;
        chart = build(box, names);
      }
      chart.setData([versions, ...names.map((name) => columns[name])]);
      const last = names.map((name) => `${name} ${shown(columns[name].findLast((v) => v != null))}`);
      box.setAttribute("aria-label", `Up to version ${versions.at(-1)}: ${last.join(", ")}`);
      box.dataset.points = String(versions.length);
    };
  }

  return { plot, shown };
})();
