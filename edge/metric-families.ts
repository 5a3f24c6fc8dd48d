/**
 * Counters, gauges and histograms as Prometheus text. Without a library, since that for Node needs
 * Node: in workerd each isolate counts for itself.
 */

export type Labels<L extends string> = Readonly<Record<L, string>>

/** One metric with all its series. */
export interface MetricFamily {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labelNames: readonly string[]
  lines(): string[]
}

/**
 * Label values are closed sets; should one turn out not to be (a host of another release names
 * codes of its own), what comes later is counted as `other` and no scrape grows without end.
 */
const SERIES_MAX = 500
const OTHER = 'other'

abstract class Metric<L extends string, T> {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly L[]
  readonly #values = new Map<string, T>()

  constructor(name: string, help: string, labelNames: readonly L[] = []) {
    this.name = name
    this.help = help
    this.labelNames = labelNames
  }

  protected keyOf(labels: Labels<L>): string {
    const key = this.#toText((name) => labels[name])
    if (this.#values.has(key) || this.#values.size < SERIES_MAX) return key
    return this.#toText(() => OTHER)
  }

  protected get(key: string): T | undefined {
    return this.#values.get(key)
  }

  protected put(key: string, value: T): void {
    this.#values.set(key, value)
  }

  protected entries(): [string, T][] {
    return [...this.#values]
  }

  #toText(read: (name: L) => string): string {
    return this.labelNames.map((name) => `${name}="${escaped(read(name))}"`).join(',')
  }
}

/** Only grows. */
export class Counter<L extends string = never> extends Metric<L, number> implements MetricFamily {
  readonly type = 'counter'

  add(labels: Labels<L>, amount = 1): void {
    const key = this.keyOf(labels)
    this.put(key, (this.get(key) ?? 0) + amount)
  }

  lines(): string[] {
    return this.entries().map(([labels, value]) => `${this.name}${braced(labels)} ${value}`)
  }
}

/** A value as it stands while the text is made. */
export class Gauge<L extends string = never> extends Metric<L, number> implements MetricFamily {
  readonly type = 'gauge'

  set(labels: Labels<L>, value: number): void {
    this.put(this.keyOf(labels), value)
  }

  lines(): string[] {
    return this.entries().map(([labels, value]) => `${this.name}${braced(labels)} ${value}`)
  }
}

interface Tally {
  /** By bucket: observations up to its bound. */
  readonly counts: number[]
  count: number
  sum: number
}

/** Times in seconds. */
export class Histogram<L extends string = never> extends Metric<L, Tally> implements MetricFamily {
  readonly type = 'histogram'
  readonly #bounds: readonly number[]

  /** `bounds`: upper bounds of the buckets, rising. */
  constructor(
    name: string,
    help: string,
    bounds: readonly number[],
    labelNames: readonly L[] = [],
  ) {
    super(name, help, labelNames)
    this.#bounds = bounds
  }

  observe(labels: Labels<L>, seconds: number): void {
    const key = this.keyOf(labels)
    const tally = this.get(key) ?? { counts: this.#bounds.map(() => 0), count: 0, sum: 0 }
    this.put(key, tally)
    tally.count += 1
    tally.sum += seconds
    for (const [i, bound] of this.#bounds.entries()) {
      if (seconds <= bound) tally.counts[i] = (tally.counts[i] ?? 0) + 1
    }
  }

  lines(): string[] {
    const { name } = this
    return this.entries().flatMap(([labels, { counts, count, sum }]) => [
      ...this.#bounds.map((bound, i) => `${name}_bucket${withBound(labels, bound)} ${counts[i]}`),
      `${name}_bucket${withBound(labels, '+Inf')} ${count}`,
      `${name}_sum${braced(labels)} ${sum}`,
      `${name}_count${braced(labels)} ${count}`,
    ])
  }
}

/** With the help and the type that a family without any value has, too. */
export function toPrometheusText(families: readonly MetricFamily[]): string {
  const lines = families.flatMap((family) => [
    `# HELP ${family.name} ${family.help}`,
    `# TYPE ${family.name} ${family.type}`,
    ...family.lines(),
  ])
  return `${lines.join('\n')}\n`
}

function braced(labels: string): string {
  return labels === '' ? '' : `{${labels}}`
}

function withBound(labels: string, bound: number | '+Inf'): string {
  return braced([...(labels === '' ? [] : [labels]), `le="${bound}"`].join(','))
}

function escaped(value: string): string {
  return value.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')
}
