/** Puts an entry last in a map of bounded size: beyond it the one that was put first goes. */
export function putLast<V>(map: Map<string, V>, key: string, value: V, entriesMax: number): void {
  map.delete(key)
  map.set(key, value)
  if (map.size <= entriesMax) return
  const [first] = map.keys()
  if (first !== undefined) map.delete(first)
}
