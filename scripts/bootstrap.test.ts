/** What the first step has npm install: a stand-in for npm says what it was asked, and fails. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'

const WANTED = {
  'node_modules/hono': { version: '2.0.0' },
  'node_modules/vitest': { version: '2.0.0', dev: true },
}
const OLD_PRODUCT = { 'node_modules/hono': { version: '1.0.0' } }
const OLD_ALL = { ...OLD_PRODUCT, 'node_modules/vitest': { version: '1.0.0', dev: true } }

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-bootstrap-'))
  mkdirSync(join(root, 'scripts'))
  mkdirSync(join(root, 'node_modules'))
  copyFileSync(join(import.meta.dirname, 'bootstrap.mjs'), join(root, 'scripts', 'bootstrap.mjs'))
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: WANTED }))
  const npm = 'console.log(process.argv.slice(2).join(" ")); process.exit(3)'
  writeFileSync(join(root, 'npm.js'), npm)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

it.each([
  ['a start', 'start', null, '--omit=dev'],
  ['a start after another', 'start', OLD_PRODUCT, '--omit=dev'],
  ['a start where the development packages were', 'start', OLD_ALL, '--include=dev'],
  ['the tests', 'test', OLD_PRODUCT, '--include=dev'],
])('%s installs what it needs, and what was there', (_, task, installed, expected) => {
  if (installed !== null) {
    const path = join(root, 'node_modules', '.package-lock.json')
    writeFileSync(path, JSON.stringify({ packages: installed }))
  }
  const env = { ...process.env, npm_execpath: join(root, 'npm.js') }
  const script = join(root, 'scripts', 'bootstrap.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, task], { env, encoding: 'utf8' })
  expect(stderr).toContain(`ci ${expected} `)
  expect(stderr).toContain('npm ci failed')
  expect(status).toBe(3)
})
