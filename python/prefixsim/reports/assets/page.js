"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const button = document.getElementById("theme");
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  const choices = ["auto", "light", "dark"];
  const look = JSON.parse(document.getElementById("look").textContent);
  // What is drawn, with the colours of the theme replaced in the dark.
  const coloured = (value, dark) => {
    let text = JSON.stringify(value);
    if (dark) for (const [day, dim] of Object.entries(look.night)) text = text.replaceAll(day, dim);
    return JSON.parse(text);
  };
  let memory = "auto"; // Where the browser gives files no storage.
  const chosen = () => {
    try { return localStorage.getItem("prefixsim-theme") || "auto"; } catch { return memory; }
  };
  const choose = (name) => {
    memory = name;
    try { localStorage.setItem("prefixsim-theme", name); } catch { /* no storage here */ }
  };
  const views = [];

  // A legend that does not fit in a line gets columns.
  const fit = (spec, width) => {
    const walk = (node) => {
      if (Array.isArray(node)) node.forEach(walk);
      else if (node && typeof node === "object") {
        if (node.legend && node.scale && node.scale.domain) {
          const sizes = node.scale.domain.map((name) => 7 * name.length + 48);
          if (sizes.reduce((sum, size) => sum + size, 0) > width - 60) {
            node.legend.columns = Math.max(1, Math.floor((width - 60) / Math.max(...sizes)));
          }
        }
        Object.values(node).forEach(walk);
      }
    };
    walk(spec);
    return spec;
  };

  const draw = async () => {
    const name = chosen();
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    const dark = name === "dark" || (name === "auto" && prefers.matches);
    views.splice(0).forEach((view) => view.finalize());
    for (const plot of document.querySelectorAll(".plot")) {
      const spec = fit(coloured(specs[plot.dataset.spec], dark), plot.clientWidth);
      const says = plot.getAttribute("aria-label");
      const whole = { ...spec, autosize: { type: "fit", contains: "padding" }, config: coloured(look.config, dark) };
      const options = { actions: false, renderer: "svg", tooltip: { theme: "custom" } };
      views.push(await window.vegaEmbed(plot, whole, options));
      plot.setAttribute("aria-label", says);
      // The figure is described by its label and its table; the marks inside say nothing more.
      plot.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    }
    return views.length;
  };

  let drawing = draw();
  const again = () => { drawing = drawing.then(draw); window.prefixsim.ready = drawing; };
  window.prefixsim = { ready: drawing };
  button.addEventListener("click", () => {
    choose(choices[(choices.indexOf(chosen()) + 1) % choices.length]);
    again();
  });
  prefers.addEventListener("change", () => { if (chosen() === "auto") again(); });
  let width = window.innerWidth;
  let timer = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(timer);
    timer = setTimeout(again, 150);
  });
})();
