/** An invoice's export on its way to a file: checked against its manifest, which goes beside it. */
import { createHash } from 'node:crypto'
import { rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { sendToEdge, toPath } from '../lib/api-client.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError, toCliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'
import { exportManifest } from '../lib/edge-replies.ts'
import { locateInvoices } from './invoice-request.ts'

/**
 * The absolute path of `--output`; undefined without it. Throws `usage` for a folder, `not_found`
 * where the folder of the file is missing.
 */
export function readOutputFile(call: CommandCall): string | undefined {
  const text = call.flags.filledText('output')
  if (text === undefined) return undefined
  const file = callerPath(call, text)
  if (isFolder(file)) throw new CliError('usage', `--output ${file} is a folder; name a file in it`)
  if (isFolder(dirname(file))) return file
  throw new CliError('not_found', `there is no folder ${dirname(file)} to write into`)
}

/** Without a manifest, one of an earlier export is removed: it would be of another file. */
export function writeInvoiceFile(file: string, content: string, manifest: string | null): void {
  const manifestFile = `${file}.manifest.json`
  try {
    writeFileSync(file, content)
    if (manifest === null) rmSync(manifestFile, { force: true })
    else writeFileSync(manifestFile, `${manifest}\n`)
  } catch (error) {
    throw toCliError(error, 'refused')
  }
}

/** Content as it came, once it matches the manifest that came with it. */
export async function downloadInvoice(
  call: CommandCall,
  format: string,
): Promise<{ content: string; manifest: string }> {
  const { target, path } = await locateInvoices(call)
  const [named = ''] = call.positionals
  const query = `?format=${encodeURIComponent(format)}`
  const request = {
    method: 'GET',
    path: path + toPath(named, 'export') + query,
    signal: call.signal,
  } as const
  const response = await sendToEdge(target, request)
  const content = await response.text()
  const manifest = response.headers.get('x-nozzle-manifest') ?? ''
  const digested = format === 'json' ? invoiceMember(content) : content
  if (createHash('sha256').update(digested).digest('hex') !== readDigest(manifest)) {
    throw new CliError('unexpected', 'the export does not match its manifest', 'Try again.')
  }
  return { content, manifest }
}

/** The text of the JSON export's second member, which its digest is of. */
function invoiceMember(content: string): string {
  const start = content.indexOf(',"invoice":') + ',"invoice":'.length
  return content.slice(start, content.lastIndexOf('}'))
}

function readDigest(manifest: string): string | null {
  try {
    return exportManifest.parse(JSON.parse(manifest)).sha256
  } catch {
    return null
  }
}

function isFolder(path: string): boolean {
  // Also of `file/name`, where throwIfNoEntry does not hold.
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}
