/** What a host or an edge exports to Prometheus, as far as tests read it. */

export interface Metrics {
  /** Sum over all labels. Throws when there is no such sample. */
  value(name: string): number
  /** Sum over the samples with such a label, as `outcome="ok"`; 0 while there are none. */
  valueWith(name: string, label: string): number
  /** Observations of a histogram that lie above one of its bounds. */
  countAbove(histogram: string, bound: number): number
}

export async function readMetrics(of: { readonly url: string }): Promise<Metrics> {
  const response = await fetch(new URL('/metrics', of.url))
  if (!response.ok) throw new Error(`/metrics answered ${response.status}`)
  return parseMetrics(await response.text())
}

function parseMetrics(text: string): Metrics {
  const samples = text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    return name === undefined ? [] : [{ name, labels, value: Number(value) }]
  })
  const find = (name: string, labels: string) =>
    samples.filter((sample) => sample.name === name && sample.labels.includes(labels))
  const sum = (found: typeof samples) => found.reduce((total, sample) => total + sample.value, 0)
  const value = (name: string, labels = ''): number => {
    const found = find(name, labels)
    if (found.length === 0) throw new Error(`no sample of ${name}{${labels}}`)
    return sum(found)
  }
  return {
    value: (name) => value(name),
    valueWith: (name, label) => sum(find(name, label)),
    countAbove: (histogram, bound) =>
      value(`${histogram}_count`) - value(`${histogram}_bucket`, `le="${bound}"`),
  }
}
