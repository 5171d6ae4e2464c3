"use strict";
// Tables are whole without this: it adds buttons that sort, and a box that filters.
(() => {
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/-?\d+(\.\d+)?(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };
  const order = (rows, at, asText, direction) => {
    const key = (row) => row.cells[at].textContent.trim();
    const compare = asText
      ? (a, b) => direction * key(a).localeCompare(key(b), undefined, { numeric: true })
      : (a, b) => {
          const [x, y] = [number(key(a)), number(key(b))];
          // What is not known stands last either way.
          return Number.isNaN(x) - Number.isNaN(y) || direction * (x - y) || 0;
        };
    return rows.sort(compare);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, at) => {
      const asText = header.classList.contains("left");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const before = header.getAttribute("aria-sort");
        const rising = before ? before === "descending" : asText;
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", rising ? "ascending" : "descending");
        body.append(...order([...body.rows], at, asText, rising ? 1 : -1));
      });
    });
    const filter = document.querySelector(`[data-filters="${table.id}"]`);
    const box = filter.querySelector("input");
    const told = filter.querySelector("output");
    const total = body.rows.length;
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of body.rows) {
        const name = row.cells[0].textContent.toLowerCase();
        row.hidden = !words.every((word) => name.includes(word));
        left += !row.hidden;
      }
      told.textContent = `${left} of ${total} tensors`;
    });
    filter.hidden = false;
  }
})();
