/** Files that a Worker's bundle holds as texts: see `rules` in wrangler.jsonc. */
declare module '*.css' {
  const text: string
  export default text
}
declare module './pages/assets/*' {
  const text: string
  export default text
}
declare module 'uplot/dist/uPlot.iife.min.js' {
  const text: string
  export default text
}
