// Keeps a project's page up to date: Server-Sent Events change the numbers and plots, and htmx
// fetches the lists again, rendered and escaped by the server.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const live = byId("live");
  const drawLoss = plebPlots.plot(byId("loss-plot"), byId("loss-empty"));
  const drawMetrics = plebPlots.plot(byId("metrics-plot"), byId("metrics-empty"));
  const points = new Map();
  let epoch = null;
  let said = null;
  let measured = null; // the newest version that was evaluated, and so shows what it does

  function setText(id, value) {
    const element = byId(id);
    const text = String(value);
    if (element && element.textContent !== text) element.textContent = text;
  }

  function draw() {
    const sorted = [...points.values()].sort((a, b) => a.version - b.version);
    const versions = sorted.map((point) => point.version);
    const column = (pick) => sorted.map((point) => pick(point) ?? null);
    const names = new Set(sorted.flatMap((point) => Object.keys(point.metrics)));
    const loss = {};
    if (sorted.some((point) => point.train_loss != null)) loss.training = column((p) => p.train_loss);
    if (names.delete("loss")) loss.holdout = column((p) => p.metrics.loss);
    drawLoss(versions, loss);
    const others = [...names].sort().slice(0, 4);
    drawMetrics(versions, Object.fromEntries(others.map((n) => [n, column((p) => p.metrics[n])])));
  }

  function targetSentence(status) {
    const plot = byId("metrics-plot").dataset;
    if (!plot.targetMetric) {
      const share = Math.round((100 * status.version) / Math.max(1, status.versions_planned));
      return `${share} % of the planned versions are done.`;
    }
    const aim = byId("target-sentence").dataset.aim;
    if (status.target_reached_at_version != null) {
      return `Target reached at version ${status.target_reached_at_version}: ${aim}.`;
    }
    const value = status.metrics[plot.targetMetric];
    if (value == null) return `Target: ${aim}. Not evaluated yet.`;
    return `Target: ${aim}. Now ${plebPlots.shown(value)} (version ${status.metrics_version}).`;
  }

  function announce(status) {
    if (said !== null && said !== status.version) {
      setText("announcement", `Version ${status.version} of ${status.versions_planned} is made.`);
    }
    said = status.version;
  }

  function show(status) {
    if (epoch !== status.epoch) points.clear();
    epoch = status.epoch;
    for (const point of status.series) points.set(point.version, point);
    setText("epoch", status.epoch ? `, epoch ${status.epoch}` : "");
    setText("version", status.version);
    setText("waiting", status.waiting);
    setText("best", status.best_version == null ? "" : `Best so far: version ${status.best_version}.`);
    setText("versions-planned", status.versions_planned);
    setText("train-loss", plebPlots.shown(status.train_loss));
    const metric = byId("target-metric");
    setText("target-metric", plebPlots.shown(status.metrics[metric.dataset.metric]));
    setText("verified", status.counts.verified);
    setText("refused", status.counts.refused);
    setText("in-flight", status.counts.in_flight);
    setText("state", status.state);
    byId("state").dataset.state = status.state;
    byId("progress").value = status.version;
    byId("progress").max = status.versions_planned;
    setText("target-sentence", targetSentence(status));
    announce(status);
    if (measured !== status.metrics_version) {
      byId("showcase").dispatchEvent(new CustomEvent("pleb:changed"));
    }
    measured = status.metrics_version;
    draw();
  }

  function setLink(state, text) {
    byId("link-state").dataset.link = state;
    setText("link-state", text);
  }

  // Lists are fetched at most once a second, and once more after the last change.
  let due = null;
  function fetchLists() {
    due ??= setTimeout(() => {
      due = null;
      live.dispatchEvent(new CustomEvent("pleb:changed"));
    }, 1000);
  }

  function listen() {
    const source = new EventSource(live.dataset.events);
    source.addEventListener("open", () => setLink("live", "live"));
    source.addEventListener("error", () => {
      // A stream that was refused is not asked for again by the browser itself.
      const refused = source.readyState === EventSource.CLOSED;
      setLink("waiting", refused ? "not live, trying again in a minute" : "reconnecting");
      if (refused) setTimeout(listen, 60_000);
    });
    source.addEventListener("status", (event) => {
      show(JSON.parse(event.data));
      fetchLists();
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  }

  // What the reader has opened stays open when the lists are replaced.
  const opened = new Set();
  live.addEventListener("click", ({ target }) => {
    const details = target.closest("summary")?.parentElement;
    if (!details) return;
    if (details.open) opened.delete(details.id);
    else opened.add(details.id);
  });
  new MutationObserver(() => {
    for (const id of opened) {
      if (byId(id)?.open === false) byId(id).open = true;
    }
  }).observe(live, { subtree: true, attributeFilter: ["open"], childList: true });

  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  listen();
})();
