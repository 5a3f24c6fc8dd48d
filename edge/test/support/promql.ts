/** What a PromQL expression asks for, by Prometheus' own grammar. */
import { parser } from '@prometheus-io/lezer-promql'

type Node = ReturnType<typeof parser.parse>['topNode']

export interface Selector {
  readonly metric: string
  readonly matchers: readonly {
    readonly label: string
    readonly op: string
    readonly value: string
  }[]
}

export interface Query {
  readonly selectors: readonly Selector[]
  /** Of `by (…)`, `without (…)`, `on (…)` and `ignoring (…)`. */
  readonly groupings: readonly string[]
}

/** Grafana puts a duration in the place of its variable, and a pattern in that of others. */
function withoutVariables(expression: string): string {
  return expression.replaceAll('$__rate_interval', '1m')
}

/** Throws Error that names the place where it is no PromQL. */
export function parseQuery(expression: string): Query {
  const text = withoutVariables(expression)
  const selectors: Selector[] = []
  const groupings: string[] = []
  const read = (node: Node): string => text.slice(node.from, node.to)
  const visit = (node: Node): void => {
    if (node.type.isError) {
      throw new Error(`no PromQL at ${node.from}: ${text.slice(node.from, node.from + 30)}`)
    }
    if (node.name === 'VectorSelector') selectors.push(toSelector(node, read))
    if (node.name === 'GroupingLabels') groupings.push(...named(node, 'LabelName').map(read))
    for (let child = node.firstChild; child !== null; child = child.nextSibling) visit(child)
  }
  visit(parser.parse(text).topNode)
  return { selectors, groupings }
}

function toSelector(node: Node, read: (node: Node) => string): Selector {
  const [metric] = named(node, 'Identifier')
  if (metric === undefined) throw new Error(`a selector without a metric: ${read(node)}`)
  const matchers = named(node, 'UnquotedLabelMatcher').map((matcher) => {
    const [label, op, value] = ['LabelName', 'MatchOp', 'StringLiteral'].map((name) => {
      const [part] = named(matcher, name)
      return part === undefined ? '' : read(part)
    })
    return { label: label ?? '', op: op ?? '', value: (value ?? '').slice(1, -1) }
  })
  return { metric: read(metric), matchers }
}

function named(node: Node, name: string): Node[] {
  const found = node.name === name ? [node] : []
  for (let child = node.firstChild; child !== null; child = child.nextSibling) {
    found.push(...named(child, name))
  }
  return found
}
