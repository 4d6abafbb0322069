// Keeps the page up to date: one stream of rendered parts, the token of each change, colours, copying.
// The server has rendered and escaped all HTML that comes here.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const token = document.querySelector('meta[name="pleb-token"]').content;
  const gone = byId("gone");

  // -- changes --------------------------------------------------------------------------

  document.addEventListener("htmx:config:request", (event) => {
    const { ctx } = event.detail;
    const form = ctx.sourceElement?.closest("form");
    const place = byId(`${ctx.sourceElement?.id}-problem`) ?? byId(`${form?.id}-problem`) ?? byId("problem");
    place.replaceChildren();
    ctx.request.headers["X-Pleb-Token"] = token;
    ctx.request.headers["X-Pleb-Place"] = place.id;
  });
  document.addEventListener("htmx:error", () => {
    sayGone("gone");
  });

  // The focus stays where a button was that another one has replaced.
  let pressedIn = null;
  document.addEventListener("htmx:before:swap", () => {
    pressedIn = document.activeElement?.closest("[data-keep-focus]")?.id ?? pressedIn;
  });

  // What was waited for has arrived: a screen reader starts at its heading.
  document.addEventListener("htmx:after:swap", () => {
    if (pressedIn && document.activeElement === document.body) byId(pressedIn)?.querySelector("button")?.focus();
    pressedIn = null;
    document.querySelector("[data-arrived]:not([data-arrived='seen'])")?.focus();
    for (const heading of document.querySelectorAll("[data-arrived]")) heading.dataset.arrived = "seen";
  });

  // -- the stream -----------------------------------------------------------------------

  let source = null;

  function sayGone(why) {
    const text = gone.dataset[why];
    if (gone.hidden || gone.textContent !== text) gone.textContent = text;
    gone.hidden = false;
    document.body.dataset.link = why;
  }

  function put(part) {
    const element = byId(part.id);
    if (!element) return;
    htmx.swap({ sourceElement: document.body, target: element, text: part.html, swap: "outerMorph" });
  }

  function listen() {
    if (source) return;
    const query = new URLSearchParams(location.search);
    query.set("view", document.body.dataset.view);
    source = new EventSource(`/events?${query}`);
    source.addEventListener("open", () => {
      gone.hidden = true;
      document.body.dataset.link = "live";
    });
    source.addEventListener("part", (event) => put(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (!source) return;
      if (source.readyState !== EventSource.CLOSED) return sayGone("gone");
      source = null;
      sayGone("over");
    });
  }

  function hush() {
    source?.close();
    source = null;
  }

  // A hidden page costs nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  addEventListener("pagehide", hush);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  if (!document.hidden) listen();

  // -- countdowns -----------------------------------------------------------------------

  // Counted here, by the second, and only while there is one to be seen: the agent does not tick.
  function countDown() {
    for (const place of document.querySelectorAll("[data-until]")) {
      const left = Math.max(0, Math.round(Number(place.dataset.until) - Date.now() / 1000));
      const hours = Math.floor(left / 3600), minutes = Math.floor(left / 60) % 60;
      const parts = hours ? [hours, minutes, left % 60] : [minutes, left % 60];
      place.textContent = parts.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
    }
  }
  setInterval(() => { if (!document.hidden) countDown(); }, 1000);
  document.addEventListener("htmx:after:swap", countDown);
  countDown();

  // -- colours --------------------------------------------------------------------------

  const colours = ["auto", "light", "dark"];
  const button = byId("theme");

  function showColours(chosen) {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.querySelector("span").textContent = button.dataset[chosen];
    dispatchEvent(new Event("pleb:colours"));
  }

  button?.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    const next = colours[(colours.indexOf(now) + 1) % colours.length];
    localStorage.setItem("pleb-colours", next);
    showColours(next);
  });
  if (button) showColours(document.documentElement.dataset.theme ?? "auto");

  // -- sliders --------------------------------------------------------------------------

  document.addEventListener("input", ({ target }) => {
    if (target.type !== "range") return;
    const text = `${target.value} ${target.dataset.unit ?? ""}`.trim();
    target.setAttribute("aria-valuetext", text);
    const output = target.parentElement.querySelector("output");
    if (output) output.textContent = text;
  });

  // -- searching ------------------------------------------------------------------------

  function filter(input) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.querySelectorAll(input.dataset.filters)) {
      const text = `${row.textContent} ${row.dataset.words ?? ""}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    for (const group of document.querySelectorAll("[data-filter-group]")) {
      group.hidden = !group.querySelector(`:is(${input.dataset.filters}):not([hidden])`);
    }
    const none = byId("filter-none");
    if (none) none.hidden = shown > 0;
  }
  document.addEventListener("input", ({ target }) => { if (target.dataset?.filters) filter(target); });
  document.addEventListener("htmx:after:swap", () => {
    const input = byId("filter");
    if (input?.value) filter(input);
  });

  // -- copying --------------------------------------------------------------------------

  document.addEventListener("click", async (event) => {
    const copier = event.target.closest?.("[data-copy]");
    if (!copier) return;
    const field = byId(copier.dataset.copy);
    const usual = copier.textContent;
    field.select?.();
    try {
      await navigator.clipboard.writeText(field.value ?? field.innerText);
      copier.textContent = copier.dataset.done;
    } catch {
      copier.textContent = copier.dataset.byHand;
    }
    setTimeout(() => { copier.textContent = usual; }, 2500);
  });
})();
