/** Many clients that never read, in a process of their own: two ends of each would be too many. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'

/** Each sends `text`. Returns the end of them. */
export function startSilentClients(url: string, count: number, text: string): () => void {
  const script = join(import.meta.dirname, 'silent_clients.py')
  const args = [script, url, String(count), text]
  const child = spawn('python3', args, { stdio: ['pipe', 'inherit', 'inherit'] })
  return () => child.stdin.end()
}
