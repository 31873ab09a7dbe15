"use strict";

// Sorting: every header becomes a button. Rows without a number stay last, parts stay apart.
function keyOf(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function sortBy(table, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("part"));
    rows.sort((a, b) => {
      const [x, y] = [keyOf(a, column), keyOf(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
    });
    body.append(...rows);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const numbers = table.querySelector("tbody tr:not(.part)")?.cells[column].dataset.value;
      // The best scores first, names from A.
      const first = numbers === undefined ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      for (const each of headers) each.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", before === first ? other : first);
      sortBy(table, column, header.getAttribute("aria-sort"));
    });
  });
}

// The filter hides whatever is of another structure, all over the page.
const choice = document.getElementById("structure");
choice.closest("label").hidden = false;
choice.addEventListener("change", () => {
  for (const part of document.querySelectorAll("[data-structure]"))
    part.hidden = choice.value !== "" && part.dataset.structure !== choice.value;
});

// Pictures enlarge by click or Enter; Escape closes.
const dialog = document.getElementById("enlarged");
for (const image of document.querySelectorAll("img.enlarges")) {
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  const open = () => {
    dialog.firstElementChild.src = image.src;
    dialog.firstElementChild.alt = image.alt;
    dialog.showModal();
  };
  image.addEventListener("click", open);
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
  });
}
dialog.addEventListener("click", () => dialog.close());

// Paper has no clicks.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
