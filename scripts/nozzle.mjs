#!/usr/bin/env node
/** The `nozzle` executable: the CLI through the same bootstrap as the npm scripts. */
process.argv.splice(2, 0, 'nozzle')
await import('./bootstrap.mjs')
