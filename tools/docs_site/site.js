/* Tables that are wider than the page can be scrolled with the keyboard. The theme makes their boxes. */
"use strict";

const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
addEventListener("load", () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) boxes.observe(box);
});
