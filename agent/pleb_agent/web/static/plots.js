// Bars per day and curves by version. Colours come from the stylesheet, so they follow its themes.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const language = document.documentElement.lang;
  const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 4 });
  const shown = (value) => (value == null ? "–" : short.format(value));
  const HEIGHT = 230;

  const axis = (more) => ({
    stroke: () => colour("--quiet"),
    grid: { stroke: () => colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    ...more,
  });

  function bars(chart) {
    const positions = chart.values.map((_, i) => i);
    return {
      data: [positions, chart.values],
      options: {
        scales: { x: { time: false, range: [-0.7, chart.values.length - 0.3] }, y: { range: (u, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
        series: [
          { label: chart.dayLabel, value: (u, v, s, i) => chart.dates[i ?? chart.dates.length - 1] },
          {
            label: chart.label,
            fill: () => colour("--line-1"),
            stroke: () => colour("--line-1"),
            paths: uPlot.paths.bars({ size: [0.72, 26], radius: 0.25 }),
            points: { show: false },
            value: (u, v, s, i) => chart.written[i ?? chart.written.length - 1],
          },
        ],
        axes: [
          axis({ grid: { show: false }, splits: (u) => everyFew(positions, u.width), values: (u, splits) => splits.map((i) => chart.dates[i] ?? "") }),
          axis({ size: 62, splits: (u, i, low, high) => (high > 0 ? [0, Math.max(...chart.values)] : [0]), values: (u, splits) => splits.map((v) => (v > 0 ? chart.top : "0")) }),
        ],
      },
    };
  }

  function everyFew(positions, width) {
    const step = Math.max(1, Math.ceil(positions.length / Math.max(2, Math.floor(width / 125))));
    return positions.filter((i) => (positions.length - 1 - i) % step === 0);
  }

  function curve(chart) {
    const joined = (u) => {
      if (chart.joined == null) return;
      const x = Math.round(u.valToPos(chart.joined, "x", true));
      const { ctx } = u;
      ctx.save();
      ctx.strokeStyle = colour("--line-3");
      ctx.fillStyle = colour("--line-3");
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
      ctx.stroke();
      ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textAlign = x > u.bbox.left + u.bbox.width * 0.75 ? "right" : "left";
      ctx.textBaseline = "top";
      ctx.fillText(` ${chart.joinedLabel} `, x, u.bbox.top);
      ctx.restore();
    };
    return {
      data: [chart.versions, chart.values, chart.ours],
      options: {
        scales: { x: { time: false } },
        series: [
          { label: chart.versionLabel, value: (u, v, s, i) => shown(i == null ? chart.versions.at(-1) : v) },
          { label: chart.label, stroke: () => colour("--line-1"), width: 2, spanGaps: true, points: { show: false }, value: (u, v, s, i) => shown(i == null ? chart.values.findLast((x) => x != null) : v) },
          { label: chart.oursLabel, stroke: () => colour("--line-2"), width: 0, paths: () => null, points: { show: true, size: 9, fill: () => colour("--line-2") }, value: (u, v) => shown(v) },
        ],
        axes: [
          axis({ values: (u, vs) => vs.map((v) => (Number.isInteger(v) ? shown(v) : "")) }),
          axis({ size: 56, values: (u, vs) => vs.map(shown) }),
        ],
        hooks: { draw: [joined] },
      },
    };
  }

  const drawn = new Set();

  function draw(box) {
    if (box.dataset.drawn) return;
    box.dataset.drawn = "yes";
    const chart = JSON.parse(box.dataset.chart);
    const { data, options } = chart.kind === "bars" ? bars(chart) : curve(chart);
    const plot = new uPlot({ width: box.clientWidth || 320, height: HEIGHT, cursor: { y: false }, legend: { live: true }, ...options }, data, box);
    drawn.add(plot);
    new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
  }

  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  const recolour = () => drawn.forEach((plot) => plot.redraw(false, true));

  document.addEventListener("htmx:after:swap", drawAll);
  addEventListener("pleb:colours", recolour);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  drawAll();
})();
