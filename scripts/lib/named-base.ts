/**
 * Which base model an adapter says that it was trained on. It is a name that anybody may have given
 * in any way, so another one is told, and refused by nobody.
 */
import { readFileSync } from 'node:fs'

/** null = its configuration names the pool's base model, or none. */
export function otherBaseNote(configPath: string, poolBase: string): string | null {
  const named = readNamedBase(configPath)
  if (named === null || isSameBase(named, poolBase)) return null
  const fit = 'if that is not what it was trained on, its answers are worth nothing'
  return `adapter_config.json names ${named}; this pool serves ${poolBase}: ${fit}`
}

function readNamedBase(configPath: string): string | null {
  try {
    const config: unknown = JSON.parse(readFileSync(configPath, 'utf8'))
    const named: unknown = Object(config).base_model_name_or_path
    return typeof named === 'string' && named !== '' ? named : null
  } catch {
    // What is wrong with the file is for the pool to say.
    return null
  }
}

/** `org/Name`, `name`, `path/name-q4_1` and `name.gguf` are one. */
function isSameBase(named: string, poolBase: string): boolean {
  const [a, b] = [bareName(named), bareName(poolBase)]
  return a.startsWith(b) || b.startsWith(a)
}

function bareName(name: string): string {
  const last =
    name
      .replace(/[/\\]+$/, '')
      .split(/[/\\]/)
      .at(-1) ?? name
  return last.toLowerCase().replace(/\.gguf$/, '')
}
