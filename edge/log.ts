/** One JSON line per thing worth knowing. Prompts, completions and keys are never fields. */

export type LogLevel = 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null>>
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

/** To the console: stderr of the process on Node, Workers Logs in a Worker. */
export const consoleLog: Log = (level, message, fields = {}) => {
  console.error(JSON.stringify({ at: new Date().toISOString(), level, message, ...fields }))
}
