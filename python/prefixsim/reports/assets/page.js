"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const button = document.getElementById("theme");
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  const choices = ["auto", "light", "dark"];
  // Colours of the figures and what stands for them in the dark.
  const night = {
    "#0072B2": "#4FA9E2", "#E69F00": "#F0B53C", "#009E73": "#35C49C", "#D55E00": "#F0793F",
    "#CC79A7": "#E09CC3", "#56B4E9": "#93D0F7", "#7A5195": "#B48FD0", "#5B5B5B": "#A9B0B8",
    "#1F2933": "#E6EAEF", "#5F6B7A": "#A3AFBD", "#B8C0CA": "#5C6875", "#FFFFFE": "#1A2027",
  };
  const config = (dark) => {
    const [ink, soft, rule] = dark ? ["#E6EAEF", "#A3AFBD", "#2E3742"] : ["#1F2933", "#52606D", "#E4E8ED"];
    const font = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif";
    return {
      background: "transparent", font, padding: 2, view: { stroke: null },
      axis: {
        domain: false, ticks: false, gridColor: rule, labelColor: soft, labelFontSize: 11.5,
        labelPadding: 6, titleColor: soft, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
      },
      axisX: { domain: true, domainColor: soft, domainOpacity: 0.6, grid: false },
      axisQuantitative: { tickCount: 5 },
      legend: {
        orient: "top", direction: "horizontal", labelColor: ink, labelFontSize: 12, labelLimit: 340,
        symbolType: "stroke", symbolStrokeWidth: 3, symbolSize: 130, columnPadding: 16, offset: 6,
      },
      line: { strokeWidth: 2.2, strokeCap: "round", strokeJoin: "round" },
      text: { fontSize: 12 },
    };
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
      let text = JSON.stringify(specs[plot.dataset.spec]);
      if (dark) for (const [day, dim] of Object.entries(night)) text = text.replaceAll(day, dim);
      const spec = fit(JSON.parse(text), plot.clientWidth);
      const says = plot.getAttribute("aria-label");
      const whole = { ...spec, autosize: { type: "fit", contains: "padding" }, config: config(dark) };
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
