"use strict";
// Adds only comfort: tables that sort, and a mark's number at once instead of after the browser's pause.
for (const table of document.querySelectorAll("table.sorts")) {
  table.classList.add("sortable");
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => {
        const cell = row.cells[column];
        return "v" in cell.dataset ? (cell.dataset.v === "" ? NaN : Number(cell.dataset.v)) : cell.textContent;
      };
      const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (typeof a === "string" || typeof b === "string") {
          const order = String(a).localeCompare(String(b), undefined, { numeric: true });
          return down ? -order : order;
        }
        // What is missing stays at the end, whichever way the rest runs.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return down ? b - a : a - b;
      });
      table.tBodies[0].append(...rows.map(pair => pair[1]));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
const hover = document.createElement("div");
hover.id = "hover";
hover.hidden = true;
document.body.append(hover);
for (const mark of document.querySelectorAll("svg title")) {
  mark.parentNode.dataset.title = mark.textContent;
  mark.remove();
}
document.addEventListener("mousemove", event => {
  const mark = event.target instanceof Element ? event.target.closest("[data-title]") : null;
  hover.hidden = mark === null;
  if (mark === null) return;
  hover.textContent = mark.dataset.title;
  const left = Math.min(event.clientX + 14, innerWidth - hover.offsetWidth - 8);
  hover.style.left = left + "px";
  hover.style.top = (event.clientY + 18) + "px";
});
