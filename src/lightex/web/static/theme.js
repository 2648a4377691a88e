/** Before the page is drawn: the theme that was chosen last. */
try {
  const chosen = localStorage.getItem("lx-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the system's theme */ }
