/**
 * Pure: where a parsed body has a member named `__proto__`. JSON.parse makes one like any other, but
 * whoever copies the object makes a prototype of it: fields would come from a place that no check
 * looks at.
 */

/**
 * The first one's place, with dots; null = there is none.
 *
 * @param text what `value` was parsed from, nested within bounds.
 */
export function findProtoMember(text: string, value: unknown): string | null {
  // Plain, or with an escape in it: hardly any body has either, and is walked through.
  if (!text.includes('__proto__') && !text.includes('\\u')) return null
  const todo: { readonly value: unknown; readonly path: readonly string[] }[] = [
    { value, path: [] },
  ]
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { value: found, path } = next
    if (typeof found !== 'object' || found === null) continue
    if (Object.hasOwn(found, '__proto__')) return [...path, '__proto__'].join('.')
    for (const [name, member] of Object.entries(found)) {
      if (typeof member === 'object') todo.push({ value: member, path: [...path, name] })
    }
  }
  return null
}
