/** What one scrape of a process says, in Prometheus' text, and what labels its metrics may have. */
import { z } from 'zod'

/** As the edge's metrics and those of the Prometheus client describe themselves. */
const family = z.object({
  name: z.string(),
  help: z.string(),
  type: z.enum(['counter', 'gauge', 'histogram']).optional(),
  labelNames: z.array(z.string()),
})

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly labelNames: readonly string[]
}

const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

export class Scrape {
  readonly families: readonly Family[]
  readonly #text: string
  readonly #samples: readonly { readonly name: string; readonly labels: Map<string, string> }[]

  /** `declared`: the metrics themselves. Throws where the text shows one of them not at all. */
  constructor(text: string, declared: readonly unknown[]) {
    this.#text = text
    this.families = declared.map((metric) => {
      const { name, help, labelNames } = family.parse(metric)
      const type = new RegExp(`^# TYPE ${name} (\\w+)$`, 'm').exec(text)?.[1]
      if (type === undefined || !text.includes(`# HELP ${name} ${help}\n`)) {
        throw new Error(`${name} is not in the scrape`)
      }
      return { name, help, type, labelNames }
    })
    this.#samples = text.split('\n').flatMap((line) => {
      const [, name, labels = ''] = SAMPLE.exec(line) ?? []
      if (name === undefined || line.startsWith('#')) return []
      const pairs = [...labels.matchAll(LABEL)].map(
        ([, label = '', value = '']) => [label, value] as const,
      )
      return [{ name, labels: new Map(pairs) }]
    })
  }

  /** Of the metric or, for a histogram, of its `_bucket`, `_sum` or `_count`; null = none such. */
  labelsOf(metric: string): readonly string[] | null {
    for (const { name, type, labelNames } of this.families) {
      if (type !== 'histogram' && name === metric) return labelNames
      if (type !== 'histogram' || !metric.startsWith(name)) continue
      const part = metric.slice(name.length)
      if (part === '_bucket') return [...labelNames, 'le']
      if (part === '_sum' || part === '_count') return labelNames
    }
    return null
  }

  /** That its series have now. */
  valuesOf(metric: string, label: string): string[] {
    const values = this.#samples
      .filter(({ name }) => name === metric)
      .flatMap(({ labels }) => labels.get(label) ?? [])
    return [...new Set(values)]
  }

  /** `series` as it stands in the text; NaN = it does not. */
  value(series: string): number {
    const line = this.#text.split('\n').find((entry) => entry.startsWith(`${series} `))
    return Number(line?.split(' ')[1] ?? Number.NaN)
  }
}
