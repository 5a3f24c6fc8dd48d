/** The pages' style and scripts on Node: read once, from this folder and from uPlot's package. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { AssetTexts } from './pages/assets.ts'

/** Throws when the installation is not whole. */
export function readAssets(): AssetTexts {
  const own = join(import.meta.dirname, 'pages', 'assets')
  const package_ = createRequire(import.meta.url).resolve('uplot/package.json')
  const uplot = join(dirname(package_), 'dist')
  const read = (...parts: string[]): string => readFileSync(join(...parts), 'utf8')
  return {
    'pages.css': read(own, 'pages.css'),
    'pages.js': read(own, 'pages.js'),
    'charts.js': read(own, 'charts.js'),
    'playground.js': read(own, 'playground.js'),
    'uplot.css': read(uplot, 'uPlot.min.css'),
    'uplot.js': read(uplot, 'uPlot.iife.min.js'),
  }
}
