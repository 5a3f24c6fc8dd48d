/**
 * Draws each `[data-plot]` from the table that its `[data-table]` names: the first column is time,
 * the columns named are series. The table stays, for whoever cannot see a canvas.
 */
const HEIGHT = 200
const DAY_S = 86_400
const drawn = []

function readTable(id) {
  const table = document.getElementById(id)
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent)
  const rows = [...table.tBodies[0].rows].map((row) =>
    [...row.cells].map((cell) => Number(cell.dataset.value)),
  )
  return { heads, column: (i) => rows.map((row) => row[i]) }
}

function draw(place, { heads, column }) {
  const style = getComputedStyle(document.documentElement)
  const colour = (name) => style.getPropertyValue(name).trim()
  const shown = place.dataset.plot.split(',').map(Number)
  const axis = { stroke: colour('--faint'), grid: { stroke: colour('--line'), width: 1 } }
  const bars = globalThis.uPlot.paths.bars({ size: [0.7, 40] })
  const series = shown.map((i, at) => ({
    label: heads[i],
    stroke: colour(`--plot-${at + 1}`),
    width: shown.length === 1 ? 0 : 2,
    ...(shown.length === 1 && { paths: bars, fill: colour('--plot-1'), points: { show: false } }),
  }))
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    // Days are those of UTC, wherever the browser is.
    tzDate: (s) => globalThis.uPlot.tzDate(new Date(s * 1000), 'Etc/UTC'),
    series: [{ label: 'Day', value: '{YYYY}-{MM}-{DD}' }, ...series],
    axes: [
      { ...axis, values: '{MM}-{DD}', incrs: [1, 2, 5, 10].map((days) => days * DAY_S) },
      { ...axis, size: 80, values: (_plot, splits) => splits.map(toTick) },
    ],
    scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
    legend: { live: false },
  }
  const canvas = document.createElement('div')
  canvas.setAttribute('role', 'img')
  canvas.setAttribute(
    'aria-label',
    `Chart: ${place.dataset.title}; the table below has its numbers`,
  )
  const head = document.createElement('h2')
  head.textContent = place.dataset.title
  place.replaceChildren(head, canvas)
  return new globalThis.uPlot(options, [column(0), ...shown.map(column)], canvas)
}

/** Costs may be far below a cent. */
function toTick(value) {
  return value === 0 || Math.abs(value) >= 1000
    ? value.toLocaleString('en-US')
    : String(Number(value.toPrecision(3)))
}

function drawAll() {
  for (const plot of drawn.splice(0)) plot.destroy()
  for (const group of document.querySelectorAll('[data-table]')) {
    const table = readTable(group.dataset.table)
    for (const place of group.querySelectorAll('[data-plot]')) drawn.push(draw(place, table))
  }
}

drawAll()
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll)
let timer
addEventListener('resize', () => {
  clearTimeout(timer)
  timer = setTimeout(drawAll, 150)
})
