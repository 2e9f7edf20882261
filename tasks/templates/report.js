// Tabs, videos with a cursor on their curves, and links that lead to a frame. Without this file everything stands on
// the page, one under the other. No library, nothing from outside.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // --- Tabs: links that lead to panels.
  const tabs = all("nav a");
  const panels = tabs.map((tab) => document.querySelector(tab.hash));
  const bar = document.querySelector("nav div");
  bar.setAttribute("role", "tablist");
  document.querySelector("main").classList.add("tabbed");
  tabs.forEach((tab, k) => {
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panels[k].id);
    tab.id = panels[k].id + "-of";
    panels[k].setAttribute("role", "tabpanel");
    panels[k].setAttribute("aria-labelledby", tab.id);
  });

  function show(k, focus) {
    tabs.forEach((tab, other) => {
      tab.setAttribute("aria-selected", String(other === k));
      tab.tabIndex = other === k ? 0 : -1;
      panels[other].classList.toggle("shown", other === k);
      if (other !== k) all("video", panels[other]).forEach((video) => video.pause());
    });
    if (focus) tabs[k].focus();
    all(".player video", panels[k]).filter((video) => !video.closest("details:not([open])")).forEach(fill);
  }

  function keep(hash) {
    try { history.replaceState(null, "", hash); } catch (_) { /* a page within a page has no history */ }
  }

  // Show the panel that holds what an address leads to.
  function open(hash, jump) {
    const target = hash.length > 1 ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
    const k = target ? panels.findIndex((panel) => panel.contains(target)) : 0;
    show(Math.max(0, k), false);
    for (let inside = target; inside; inside = inside.parentElement) if (inside.tagName === "DETAILS") inside.open = true;
    if (target && jump && !panels.includes(target)) target.scrollIntoView();
    else if (jump) window.scrollTo(0, 0);
  }

  bar.addEventListener("keydown", (event) => {
    const k = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (k < 0 || to === undefined) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    show(next, true);
    keep(tabs[next].hash);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    event.preventDefault();
    open(link.hash, true);
    keep(link.hash);
    const group = link.dataset.seek && document.getElementById(link.hash.slice(1));
    if (group) seek(group, Number(link.dataset.seek));
  });
  window.addEventListener("hashchange", () => open(location.hash, true));

  // --- Videos of the overview are shown again above their curves; the page holds each only once.
  function fill(video) {
    if (video.src) return;
    const from = document.getElementById(video.dataset.of);
    video.poster = from.poster;
    video.src = from.src;
  }

  function seek(group, seconds) {
    const video = group.querySelector(".player video");
    fill(video);
    const go = () => { video.currentTime = Math.min(Math.max(0, seconds), (video.duration || seconds) - 0.001); };
    if (video.readyState > 0) go(); else video.addEventListener("loadedmetadata", go, { once: true });
  }

  // --- Curves: a cursor that follows the video, the values at it, and a click or the arrow keys that move both.
  const between = (value, a, b, c, d) => c + ((value - a) / (b - a || 1)) * (d - c);

  function scales(svg) {
    const [first, last, left, right] = svg.dataset.x.split(" ").map(Number);
    const [low, high, bottom, top] = svg.dataset.y.split(" ").map(Number);
    return { first, last, left, right, low, high, bottom, top };
  }

  function points(line) {
    return line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));
  }

  all(".timed").forEach((group) => {
    const video = group.querySelector(".player video");
    const charts = all("svg[data-x]", group).map((svg) => {
      const scale = scales(svg);
      svg.insertAdjacentHTML("beforeend", `<line class="cursor" y1="${scale.top}" y2="${scale.bottom}"/>`);
      const cursor = svg.lastElementChild;
      const lines = all(".key", svg.parentElement).map((key) => ({
        output: key.querySelector("output"),
        points: all("polyline." + key.querySelector("i").className, svg).flatMap(points).sort((a, b) => a[0] - b[0]),
      }));
      return { svg, scale, cursor, lines };
    });
    if (!video || !charts.length) return;
    const step = Number(group.dataset.step);

    function valueAt(line, x, scale, near) {
      let best = null;
      for (const point of line.points) if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
      if (!best || Math.abs(best[0] - x) > near) return "\u2013";
      return between(best[1], scale.bottom, scale.top, scale.low, scale.high).toPrecision(3);
    }

    function follow() {
      // A frame is shown from its own instant to the next one's.
      const now = Math.floor(video.currentTime / step + 0.01) * step;
      for (const { svg, scale, cursor, lines } of charts) {
        const at = Math.min(Math.max(now, scale.first), scale.last);
        const x = between(at, scale.first, scale.last, scale.left, scale.right);
        const near = (scale.right - scale.left) / ((scale.last - scale.first) / step || 1);
        cursor.setAttribute("x1", x);
        cursor.setAttribute("x2", x);
        for (const line of lines) line.output.textContent = valueAt(line, x, scale, near);
        svg.setAttribute("aria-valuenow", at.toFixed(2));
        svg.setAttribute("aria-valuetext", at.toFixed(2) + " seconds: " + lines.map((line) => line.output.textContent).join(", "));
      }
    }

    let running = false;
    function run() {
      follow();
      running = !video.paused && !video.ended;
      if (running) requestAnimationFrame(run);
    }
    video.addEventListener("play", () => { if (!running) run(); });
    for (const name of ["seeked", "timeupdate", "loadedmetadata", "pause"]) video.addEventListener(name, follow);

    for (const { svg, scale } of charts) {
      svg.tabIndex = 0;
      svg.setAttribute("role", "slider");
      svg.setAttribute("aria-valuemin", scale.first);
      svg.setAttribute("aria-valuemax", scale.last);
      let held = false;
      const to = (event) => {
        const box = svg.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        seek(group, between(x, scale.left, scale.right, scale.first, scale.last) + step / 4);
      };
      svg.addEventListener("pointerdown", (event) => { held = true; svg.setPointerCapture(event.pointerId); to(event); });
      svg.addEventListener("pointermove", (event) => { if (held) to(event); });
      for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { held = false; });
      svg.addEventListener("keydown", (event) => {
        const by = { ArrowRight: step, ArrowLeft: -step, ArrowUp: step, ArrowDown: -step, PageUp: 1, PageDown: -1 }[event.key];
        const here = (Math.floor(video.currentTime / step + 0.01) + 0.25) * step;
        if (by !== undefined) seek(group, here + by);
        else if (event.key === "Home") seek(group, scale.first);
        else if (event.key === "End") seek(group, scale.last);
        else if (event.key === " ") { if (video.paused) video.play(); else video.pause(); }
        else return;
        event.preventDefault();
      });
    }
    follow();
  });
  all("details").forEach((one) => one.addEventListener("toggle", () => { if (one.open) all(".player video", one).forEach(fill); }));

  // A picture of the preparation fills the page, and steps back, at a click.
  all(".columns .card img").forEach((picture) => {
    const grow = () => picture.closest(".card").classList.toggle("full");
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", grow);
    picture.addEventListener("keydown", (event) => { if (event.key === "Enter") grow(); });
  });

  open(location.hash, false);
})();
