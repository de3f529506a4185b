"use strict";
// One group at a time, filters, and keys. Without this the page shows all groups one below the other.
document.documentElement.classList.add("scripted");
const byId = id => document.getElementById(id);
const index = byId("index");
const entries = [...index.querySelectorAll("a")].map(link => ({
  link, row: link.parentNode, group: byId(link.hash.slice(1)),
}));
const filters = ["kind", "outcome", "leak"].map(name => [name, byId("by-" + name)]);
let current = null;
const open = () => entries.filter(entry => !entry.row.hidden);

function show(entry) {
  if (current !== null) {
    current.group.classList.remove("current");
    current.link.removeAttribute("aria-current");
  }
  current = entry;
  const list = open();
  const place = list.indexOf(entry);
  byId("position").textContent = entry === null ? "no group" : place + 1 + " of " + list.length;
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place === -1 || place === list.length - 1;
  if (entry === null) return;
  entry.group.classList.add("current");
  entry.link.setAttribute("aria-current", "true");
  // By hand, for scrollIntoView would move the page as well.
  const top = entry.row.offsetTop, height = entry.row.offsetHeight;
  if (top < index.scrollTop) index.scrollTop = top;
  else if (top + height > index.scrollTop + index.clientHeight) index.scrollTop = top + height - index.clientHeight;
}

function go(entry) {
  show(entry);
  // Replaced, so that reading on does not fill the history; and the group's head comes into view.
  location.replace(entry.link.hash);
}

function step(by) {
  const list = open();
  const entry = list[list.indexOf(current) + by];
  if (entry !== undefined) go(entry);
}

function filter() {
  for (const entry of entries) {
    entry.row.hidden = filters.some(([name, select]) => select.value !== "" && entry.group.dataset[name] !== select.value);
  }
  const list = open();
  byId("nothing").hidden = list.length > 0;
  show(list.includes(current) ? current : list[0] ?? null);
}

for (const [, select] of filters) select.addEventListener("change", filter);
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
addEventListener("hashchange", () => {
  const entry = entries.find(entry => entry.link.hash === location.hash);
  if (entry === undefined || entry === current) return;
  if (entry.row.hidden) {
    for (const [, select] of filters) select.value = "";
    filter();
  }
  show(entry);
  entry.group.scrollIntoView();
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target instanceof Element && event.target.closest("select, input")) return;
  if (event.key === "j" || event.key === "ArrowRight") step(1);
  else if (event.key === "k" || event.key === "ArrowLeft") step(-1);
  else return;
  event.preventDefault();
});
// What a browser kept of an earlier visit to the page would filter without a word.
for (const [, select] of filters) select.value = "";
filter();
const linked = entries.find(entry => entry.link.hash === location.hash);
if (linked !== undefined) { show(linked); linked.group.scrollIntoView(); }

// A mark's number at once instead of after the browser's pause.
const hover = document.createElement("div");
hover.id = "hover";
hover.hidden = true;
document.body.append(hover);
for (const mark of document.querySelectorAll("svg title")) {
  mark.parentNode.dataset.title = mark.textContent;
  mark.remove();
}
document.addEventListener("mousemove", event => {
  const mark = event.target instanceof Element ? event.target.closest("[data-title], .prose i[title]") : null;
  hover.hidden = mark === null;
  if (mark === null) return;
  if (mark.hasAttribute("title")) {
    mark.dataset.title = mark.title;
    mark.removeAttribute("title");
  }
  hover.textContent = mark.dataset.title;
  hover.style.left = Math.min(event.clientX + 14, innerWidth - hover.offsetWidth - 8) + "px";
  hover.style.top = event.clientY + 18 + "px";
});
