/** Before the page is drawn: the theme and the widths that were chosen last, so that nothing jumps. */
try {
  const { dataset, style } = document.documentElement, chosen = localStorage.getItem("lx-theme");
  if (chosen) dataset.theme = chosen;
  for (const key of ["lx-split", "lx-files"]) if (localStorage.getItem(key)) style.setProperty(`--${key}`, `${Number(localStorage.getItem(key))}%`);
} catch { /* no storage: the system's theme */ }
