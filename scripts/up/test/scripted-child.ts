/**
 * A child for the supervisor's tests, told by its environment what to do: say that it is ready, die
 * at once, ignore SIGTERM. It leaves when its channel closes, as the real entries do.
 */
const { BEHAVIOUR, NOTE } = process.env

process.on('disconnect', () => process.exit(0))
console.error(`started ${NOTE ?? ''}`)
if (BEHAVIOUR === 'die') {
  console.error('cannot start: the reason')
  process.exit(3)
}
if (BEHAVIOUR === 'misconfigured') {
  console.error(JSON.stringify({ level: 'error', reason: 'PORT: is taken', fix: 'choose another' }))
  process.exit(2)
}
process.on('SIGTERM', () => {
  console.error('SIGTERM')
  if (BEHAVIOUR !== 'stubborn') process.exit(0)
})
// Something else than `ready` first: it must be passed over.
process.send?.({ type: 'progress' })
process.send?.({ type: 'ready', url: `http://127.0.0.1:${process.pid % 60_000}` })
