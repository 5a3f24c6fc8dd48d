/** Typed data → YAML with comments. A comment names the place that it explains, so none can rot. */
import { Document, isMap, isScalar, visit } from 'yaml'

/** Keys and indices from the root, with dots between them: `spec.template.spec.containers.0`. */
export type Comments = Readonly<Record<string, string>>

const COLUMNS = 100

/**
 * @param head comment lines before the document. Throws an Error for a comment on a place that the
 * data lacks.
 */
export function formatYaml(head: readonly string[], data: object, comments: Comments = {}): string {
  const document = new Document(data, { aliasDuplicateObjects: false })
  const wanted = new Map(Object.entries(comments))
  visit(document, {
    Pair(_key, pair, ancestors) {
      const path = pathOf([...ancestors, pair])
      const comment = wanted.get(path)
      if (comment === undefined || !isScalar(pair.key)) return
      wanted.delete(path)
      pair.key.commentBefore = comment.replaceAll(/^/gm, ' ')
    },
  })
  const [missing] = wanted.keys()
  if (missing !== undefined) throw new Error(`no ${missing} to comment on`)
  if (head.length > 0) document.commentBefore = head.map((line) => ` ${line}`).join('\n')
  return document.toString({ lineWidth: COLUMNS })
}

/** Of the nodes from the document to a pair. */
function pathOf(nodes: readonly unknown[]): string {
  const steps: string[] = []
  for (const [i, node] of nodes.entries()) {
    const parent = nodes[i - 1]
    if (isPairLike(node)) steps.push(String(node.key.value))
    else if (isSequence(parent)) steps.push(String(parent.items.indexOf(node)))
  }
  return steps.join('.')
}

function isPairLike(node: unknown): node is { readonly key: { readonly value: unknown } } {
  return typeof node === 'object' && node !== null && 'key' in node && isScalar(node.key)
}

function isSequence(node: unknown): node is { readonly items: readonly unknown[] } {
  return typeof node === 'object' && node !== null && 'items' in node && !isMap(node)
}
