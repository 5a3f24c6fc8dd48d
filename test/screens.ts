/**
 * Takes the screenshots of docs/pages.md: `node test/screens.ts`, with the path of the base model
 * in NOZZLE_TEST_BASE_MODEL. A whole pool with the example models, asked a few things, in a real
 * browser. Says how long each page took to load. Not a test: nothing fails when a picture is
 * another.
 */
import { join } from 'node:path'
import { openBrowser } from '../edge/test/support/browser.ts'
import { ask, chatBody } from './support/inference.ts'
import { PROJECT_ROOT } from './support/nozzle.ts'
import { startPool } from './support/pool.ts'
import { createPoolHome } from './support/pool-home.ts'
import { adapterDirectory, caseOf, EXAMPLE_TASKS } from './support/tasks.ts'

const SCREENS = join(PROJECT_ROOT, 'docs', 'screens')
const SIZE = { width: 1200, height: 760 }
const MODEL = 'text-to-sql'
const SHARE = '20'
const PRICES = ['--prompt', '0.05', '--cached-prompt', '0.02', '--completion', '0.20']

const home = await createPoolHome()
const pool = await startPool(home)
try {
  await nozzle('price', 'set', pool.ready.base_model, ...PRICES)
  await nozzle('deploy', adapterDirectory(MODEL), '--model', MODEL, '--canary', SHARE, '--force')
  for (const task of EXAMPLE_TASKS) {
    const { prompt } = caseOf(task)
    const baseUrl = `${pool.edgeUrl}/demo/${task}/v1`
    await ask({ baseUrl, apiKey: pool.demoKey, body: chatBody(prompt, 24) })
  }
  await takeAll()
} finally {
  await pool.stop()
  await home.remove()
}

async function nozzle(...args: string[]): Promise<void> {
  const { exitCode, stderr } = await pool.nozzle(...args)
  if (exitCode !== 0) throw new Error(stderr)
}

async function takeAll(): Promise<void> {
  const browser = await openBrowser()
  try {
    for (const colorScheme of ['light', 'dark'] as const) {
      const context = await browser.newContext({ colorScheme, locale: 'en-US', viewport: SIZE })
      const page = await context.newPage()
      await page.goto(`${pool.edgeUrl}/ui`)
      await page.fill('#key', pool.operator.apiKey)
      await page.click('main button')
      const take = (name: string) =>
        page.screenshot({ path: join(SCREENS, `${name}-${colorScheme}.png`) })
      const open = async (path: string): Promise<void> => {
        await page.goto(`${pool.edgeUrl}/ui/${path}`)
        const ms = await page.evaluate<number>(
          'performance.timing.loadEventEnd - performance.timing.navigationStart',
        )
        console.log(`${path}: loaded in ${ms} ms`)
      }
      if (colorScheme === 'dark') {
        await open('residency')
        await take('residency')
        await open('latency')
        await take('latency')
        continue
      }
      await open(`t/demo/models/${MODEL}`)
      await take('model')
      await open('t/demo/usage')
      await take('usage')
      await open(`t/demo/playground?model=${MODEL}`)
      await page.fill('#version', '1')
      await page.fill('#compare', '2')
      await page.fill('#max_tokens', '40')
      await page.fill('#temperature', '0')
      await page.fill('#prompt', caseOf(MODEL).prompt)
      await page.click('text=Send')
      await page.waitForSelector('.answers [aria-busy=false]')
      await page.waitForSelector('.answers [aria-busy=true]', { state: 'detached' })
      await page.locator('#answers').scrollIntoViewIfNeeded()
      await take('playground')
      await open('pool')
      await take('pool')
    }
  } finally {
    await browser.close()
  }
}
