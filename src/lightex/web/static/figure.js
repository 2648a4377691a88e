/** A plotly figure, in a page of its own. */
const data = JSON.parse(document.getElementById("data").textContent);
window.Plotly?.newPlot("figure", data.data ?? [], { ...data.layout, autosize: true, width: undefined, height: undefined }, { responsive: true, displaylogo: false });
