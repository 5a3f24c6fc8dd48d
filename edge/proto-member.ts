/**
 * Pure: where a parsed body has a member named `__proto__`. JSON.parse makes one like any other,
 * but whoever copies the object makes a prototype of it: fields would come from a place that no
 * check looks at.
 */

/**
 * The first one's place, with dots; null = there is none.
 *
 * @param text what `value` was parsed from.
 */
export function findProtoMember(text: string, value: unknown): string | null {
  // Plain, or with an escape in it: hardly any body has either, and is walked through.
  if (!text.includes('__proto__') && !text.includes('\\u')) return null
  const todo: Member[] = [{ value, name: '', within: null }]
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { value: found } = next
    if (typeof found !== 'object' || found === null) continue
    if (Object.hasOwn(found, '__proto__')) return pathOf(next, '__proto__')
    for (const [name, member] of Object.entries(found)) {
      if (typeof member === 'object') todo.push({ value: member, name, within: next })
    }
  }
  return null
}

interface Member {
  readonly value: unknown
  readonly name: string
  /** null = it is the whole. */
  readonly within: Member | null
}

function pathOf(member: Member, name: string): string {
  const path = [name]
  for (let at = member; at.within !== null; at = at.within) path.push(at.name)
  return path.reverse().join('.')
}
