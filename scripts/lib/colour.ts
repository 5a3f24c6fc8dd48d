/** Whether colour and lines that are drawn anew may be used, as other tools decide it. Pure. */
import { styleText } from 'node:util'

export type Style = 'good' | 'warning' | 'bad' | 'heading'
export type Paint = (style: Style, text: string) => string

const STYLES = { good: 'green', warning: 'yellow', bad: 'red', heading: 'bold' } as const

/**
 * NO_COLOR (no-color.org) and a terminal that says it is dumb come first; FORCE_COLOR colours what
 * goes into a pipe, too.
 */
export function hasColour(env: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
  if (env.NO_COLOR || env.TERM === 'dumb') return false
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0'
  return isTerminal
}

/** A dumb terminal cannot go back in its line. */
export function canRedraw(env: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
  return isTerminal && env.TERM !== 'dumb'
}

export function paintOn(isColoured: boolean): Paint {
  // Decided above: styleText would look at this process's own stdout.
  if (isColoured) return (style, text) => styleText(STYLES[style], text, { validateStream: false })
  return (_style, text) => text
}
