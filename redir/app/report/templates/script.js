"use strict";

const key = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
};

const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));

const sort = (table, button) => {
  const head = button.closest("th");
  const column = Number(button.dataset.column);
  const numeric = head.classList.contains("n");
  const first = numeric ? "descending" : "ascending";
  const other = numeric ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  rows.sort(([a], [b]) => sign * compare(a, b));
  table.tBodies[0].append(...rows.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sorts")) {
  for (const button of table.querySelectorAll("button[data-column]")) {
    button.addEventListener("click", () => sort(table, button));
  }
}

for (const tools of document.querySelectorAll(".tools")) {
  const search = tools.querySelector("[data-filter]");
  const changed = tools.querySelector("[data-changed]");
  const count = tools.querySelector("[data-count]");
  const rows = document.getElementById(search.dataset.filter).tBodies[0].rows;
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(wanted) && (!changed.checked || row.dataset.changed === "1");
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  search.addEventListener("input", filter);
  changed.addEventListener("input", filter);
  tools.hidden = false;
  filter();
}
