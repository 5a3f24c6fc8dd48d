/**
 * The pages' style and scripts in a Worker: bundled as texts, by the rule in wrangler.jsonc. Their
 * types are in `text-modules.d.ts`.
 */

import uplotScript from 'uplot/dist/uPlot.iife.min.js'
import uplotStyle from 'uplot/dist/uPlot.min.css'
import chartsScript from './pages/assets/charts.js'
import style from './pages/assets/pages.css'
import script from './pages/assets/pages.js'
import playgroundScript from './pages/assets/playground.js'
import type { AssetTexts } from './pages/assets.ts'

export const BUNDLED_ASSETS: AssetTexts = {
  'pages.css': style,
  'pages.js': script,
  'charts.js': chartsScript,
  'playground.js': playgroundScript,
  'uplot.css': uplotStyle,
  'uplot.js': uplotScript,
}
