// Before anything is drawn: the colours that were chosen here, if not the system's.
"use strict";
{
  const chosen = localStorage.getItem("pleb-colours");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
