/** What is installed is pinned, proven by digest, lawful, and runs nothing meanwhile. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { TREE_ROOT as root } from '../test/source-tree.ts'
import { isSerious, readAudit } from './audit.ts'
import { INSTALL_SCRIPTS, isListed } from './install-scripts.ts'
import { findForbidden } from './licence-list.ts'
import { CARRIED_PARTS, isAllowed, PYTHON_LICENCES } from './licences.ts'
import { readLockedPackages, readManifest, readRequirements } from './locked-packages.ts'
import { createSbom } from './sbom.ts'
import { currentLicenceList, LICENCE_LIST, TEST_REQUIREMENTS } from './write-licence-list.ts'

const locked = readLockedPackages(root)
const product = locked.filter(({ isDevelopment }) => !isDevelopment)
const manifest = readManifest(root)
const npmrc = readFileSync(join(root, '.npmrc'), 'utf8').split('\n')
const EXACT = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/
const pythonPackages = process.env.NOZZLE_TEST_PYTHON_PACKAGES

describe('packages', () => {
  it('are asked for in one exact version', () => {
    const { dependencies, devDependencies, optionalDependencies } = manifest
    const asked = Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })
    expect(asked.length).toBeGreaterThan(30)
    expect(asked.filter(([, version]) => !EXACT.test(version))).toEqual([])
  })

  it('of Python are, too', () => {
    for (const path of [TEST_REQUIREMENTS, 'examples/training/requirements.txt']) {
      expect(readRequirements(root, path).length, path).toBeGreaterThan(1)
    }
    expect(() => readRequirements(root, 'README.md')).toThrow('not pinned to one version')
  })

  it('come from a registry, and are held to the SHA-512 of what was reviewed', () => {
    expect(locked.length).toBeGreaterThan(300)
    const unproven = locked.filter(({ integrity }) => !integrity?.startsWith('sha512-'))
    expect(unproven.map(({ name }) => name)).toEqual([])
    expect(locked.filter(({ otherSource }) => otherSource !== null)).toEqual([])
  })
})

describe('install scripts', () => {
  const scripted = locked.filter(({ hasInstallScript }) => hasInstallScript)

  it('are run of no package', () => {
    expect(npmrc).toContain('ignore-scripts=true')
    expect(Object.values(manifest.allowScripts)).not.toContain(true)
  })

  it('are in none that the product needs', () => {
    expect(scripted.filter(({ isDevelopment }) => !isDevelopment)).toEqual([])
  })

  it('are listed, each with what it would do', () => {
    expect(scripted.filter(({ name }) => !isListed(name)).map(({ name }) => name)).toEqual([])
    const unused = INSTALL_SCRIPTS.filter(
      (entry) => !scripted.some(({ name }) => isListed(name, [entry])),
    )
    expect(unused).toEqual([])
    expect(isListed('node')).toBe(false)
  })

  it('are refused by name to an npm that is told to run them', () => {
    const refused = Object.keys(manifest.allowScripts).sort()
    expect(refused).toEqual([...new Set(scripted.map(({ name }) => name))].sort())
  })
})

describe('licences', () => {
  it('are such as may be here', () => {
    expect(findForbidden(locked)).toEqual([])
  })

  it('would be found if they were not', () => {
    const asProduct = { name: 'x', isDevelopment: false }
    for (const license of [
      'GPL-3.0-only',
      'LGPL-3.0-or-later',
      'MPL-2.0',
      '(none)',
      'UNLICENSED',
    ]) {
      expect(findForbidden([{ ...asProduct, license }])).toEqual([`x: ${license}`])
    }
    expect(isAllowed('Apache-2.0 AND LGPL-3.0-or-later', false)).toBe(false)
    expect(isAllowed('(GPL-2.0-only OR MIT)', false)).toBe(true)
    expect(
      findForbidden([{ name: 'x', isDevelopment: true, license: 'AGPL-3.0-only' }]),
    ).toHaveLength(1)
  })

  it('of the Python packages are known, and may be here', () => {
    const names = readRequirements(root, TEST_REQUIREMENTS).map(({ name }) => name)
    expect(Object.keys(PYTHON_LICENCES).sort()).toEqual(names.sort())
    for (const [name, license] of Object.entries(PYTHON_LICENCES)) {
      expect(isAllowed(license, true), name).toBe(true)
    }
  })

  it('are listed as they are now', () => {
    expect(readFileSync(join(root, LICENCE_LIST), 'utf8'), 'npm run licences').toBe(
      currentLicenceList(root),
    )
  })

  it.skipIf(pythonPackages === undefined)('of Python are what the packages themselves say', () => {
    const folder = pythonPackages ?? ''
    const installed = readdirSync(folder)
    for (const { name, version } of readRequirements(root, TEST_REQUIREMENTS)) {
      const info = `${name.replaceAll(/[-.]+/g, '_')}-${version}.dist-info`
      const found = installed.find((entry) => entry.toLowerCase() === info)
      const metadata = readFileSync(join(folder, found ?? info, 'METADATA'), 'utf8')
      expect(metadata, name).toMatch(wordsOf(PYTHON_LICENCES[name] ?? ''))
    }
  })
})

/** What older metadata calls a licence, beside its SPDX name. */
function wordsOf(license: string): RegExp {
  const named: Readonly<Record<string, string>> = {
    MIT: 'MIT',
    'BSD-3-Clause': 'BSD',
    'BSD-2-Clause': 'BSD',
    'Apache-2.0': 'Apache',
    'MPL-2.0': 'Mozilla|MPL',
    'PSF-2.0': 'Python Software Foundation|PSF',
  }
  const words = license.split(' OR ').map((one) => named[one] ?? one)
  return new RegExp(`^(License-Expression|License|Classifier: License).*(${words.join('|')})`, 'm')
}

describe('the bill of materials', () => {
  it('names every package of the product with its digest, and what comes inside of them', () => {
    const { components } = createSbom(root, false)
    const named = components.map(({ name, version }) => `${name} ${version ?? ''}`.trim())
    for (const { name, version } of product) expect(named).toContain(`${name} ${version}`)
    for (const { name } of CARRIED_PARTS) expect(named).toContain(name)
    const packages = components.filter(({ purl }) => purl?.startsWith('pkg:npm/'))
    expect(packages.filter(({ hashes }) => hashes?.[0]?.alg !== 'SHA-512')).toEqual([])
    expect(packages.length).toBe(new Set(product.map(({ name, version }) => name + version)).size)
  })
})

describe('an audit', () => {
  const found = {
    vulnerabilities: {
      hono: { severity: 'high', via: [{ title: 'a fault', url: 'https://x.test/1' }, 'jose'] },
      vitest: { severity: 'critical', via: ['x'] },
      pg: { severity: 'low', via: [] },
    },
  }

  it('names what is known, the worst first, and what of it is in the product', () => {
    const findings = readAudit(
      { stdout: JSON.stringify(found), stderr: '' },
      new Set(['hono', 'pg']),
    )
    expect(findings.map((one) => [one.package, one.severity, one.isInProduct])).toEqual([
      ['vitest', 'critical', false],
      ['hono', 'high', true],
      ['pg', 'low', true],
    ])
    expect(findings[1]?.advisories).toEqual(['a fault (https://x.test/1)'])
    expect(findings.filter(isSerious)).toHaveLength(2)
    expect(readAudit({ stdout: '{"vulnerabilities":{}}', stderr: '' }, new Set())).toEqual([])
  })

  it.each([
    ['', 'npm error 500'],
    ['{"message":"404 Not Found"}', '404 Not Found'],
    ['<html>', 'npm error 500'],
  ])('that nobody answered is not taken for one: %s', (stdout, reason) => {
    const outcome = { stdout, stderr: 'npm error\nnpm error 500\n' }
    expect(() => readAudit(outcome, new Set())).toThrow(`nothing is known: ${reason}`)
  })
})
