/** A real Chromium, whose binary an npm package carries, and what tests look for in each page. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import chromium from '@sparticuz/chromium'
import type { AxeResults } from 'axe-core'
import { type Browser, type Page, chromium as playwright } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** As root, as in most containers, Chromium has no sandbox. */
export async function openBrowser(): Promise<Browser> {
  return playwright.launch({
    executablePath: await chromium.executablePath(),
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--lang=en-US'],
    // A locale of C is none that its scripts know.
    env: { ...process.env, LC_ALL: 'en_US.UTF-8' },
  })
}

/** Rules that axe finds broken, serious ones and worse, each with the elements at fault. */
export async function seriousFindings(page: Page): Promise<string[]> {
  // Not as an element of the page: its content policy would refuse that.
  await page.evaluate(AXE)
  const results = await page.evaluate<AxeResults>('axe.run()')
  return results.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
}

/** Errors that the page's scripts threw, and what the content policy kept from it. */
export function watchErrors(page: Page): string[] {
  const errors: string[] = []
  page.on('pageerror', (error) => errors.push(error.message))
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text())
  })
  return errors
}
