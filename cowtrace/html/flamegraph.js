// Draw the flame graph of the page with d3-flame-graph. Names only ever become text.
(() => {
  const ROW = 18; // pixels; flamegraph.css has it too
  const NARROWEST = 1; // pixels; a click on the caller makes room
  const FOUND = '#f04df0';
  const chart = document.getElementById('chart-flame');
  const search = document.getElementById('flame-search');
  const said = document.getElementById('flame-found');
  const told = JSON.parse(document.getElementById('flame-data').textContent);

  // Each frame comes after its caller, and calls of one caller come by size.
  const frames = told.call.map((number, at) => {
    const [name, module, colour] = told.calls[number];
    return {name, module: told.modules[module], colour: told.colours[colour],
      value: told.total[at], self: told.self[at], copies: told.copies[at], children: []};
  });
  told.caller.forEach((caller, at) => { if (caller >= 0) frames[caller].children.push(frames[at]); });
  const all = Math.max(1, frames[0].value);

  function three(number) {
    return number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0);
  }
  function size(bytes) {
    let unit = 0;
    for (; bytes >= 1023.5 && unit < 6; unit++) bytes /= 1024;
    return `${unit ? three(bytes) : bytes} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'][unit]}`;
  }
  function percent(bytes) {
    const share = 100 * bytes / all;
    return `${share >= 99.95 ? 100 : share.toFixed(1)}%`;
  }
  function details(frame) {
    const lines = [frame.name];
    if (frame.module) lines.push(frame.module);
    lines.push(`${size(frame.value)} in ${frame.copies.toLocaleString('en')} copies, ${percent(frame.value)}`);
    lines.push(`itself ${size(frame.self)}`);
    return lines.join('\n');
  }

  // Beside the pointer, inside the window. The library's own one is not kept inside.
  const tip = document.createElement('div');
  tip.id = 'flame-tip';
  tip.hidden = true;
  function tooltip() { document.body.append(tip); }
  tooltip.show = (event, node) => {
    tip.textContent = details(node.data);
    tip.hidden = false;
    const {width, height} = tip.getBoundingClientRect();
    const right = event.clientX + 14, below = event.clientY + 14;
    tip.style.left = `${Math.max(4, Math.min(right, innerWidth - width - 4))}px`;
    tip.style.top = `${below + height < innerHeight ? below : Math.max(4, event.clientY - height - 10)}px`;
  };
  tooltip.hide = () => { tip.hidden = true; };

  // At once, without transitions: of thousands of frames they take seconds, and labels come last.
  d3.selection.prototype.transition = function () {
    this.duration = this.delay = this.ease = () => this;
    return this;
  };
  const graph = flamegraph.default()
    .width(chart.clientWidth).cellHeight(ROW).minFrameSize(NARROWEST)
    .inverted(true).resetHeightOnZoom(true)
    .setColorMapper(node => node.highlight ? FOUND : node.data.colour)
    .tooltip(tooltip)
    .setSearchMatch((node, words) => node.parent
      && `${node.data.name}\n${node.data.module}`.toLowerCase().includes(words))
    .setSearchHandler(found => { matches = found; });
  let matches = [], next = 0;
  d3.select(chart).datum(frames[0]).call(graph);

  function find() {
    const words = search.value.trim().toLowerCase();
    matches = [];
    next = 0;
    if (words) graph.search(words);
    else graph.clear();
    // A match below another one is part of it.
    const held = new Set(matches);
    const within = node => node.ancestors().slice(1).some(caller => held.has(caller));
    const bytes = matches.filter(node => !within(node)).reduce((sum, node) => sum + node.data.value, 0);
    matches.sort((a, b) => b.data.value - a.data.value);
    const calls = matches.length.toLocaleString('en') + (matches.length === 1 ? ' call' : ' calls');
    said.textContent = words ? `${percent(bytes)} in ${calls}` : '';
  }
  function reset() {
    next = 0;
    graph.resetZoom();
  }
  search.addEventListener('input', find);
  search.addEventListener('keydown', event => {
    if (event.key === 'Enter' && matches.length) graph.zoomTo(matches[next++ % matches.length]);
  });
  document.getElementById('flame-reset').addEventListener('click', reset);
  addEventListener('keydown', event => { if (event.key === 'Escape') reset(); });

  let width = chart.clientWidth;
  addEventListener('resize', () => {
    if (chart.clientWidth !== width) graph.width(width = chart.clientWidth).update();
  });
})();
