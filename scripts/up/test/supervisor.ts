/** A supervisor in a process of its own, to be killed: prints its child's id once that serves. */
import { SupervisedProcess } from '../child-process.ts'

const [entry = '', logPath = ''] = process.argv.slice(2)
const child = new SupervisedProcess({
  name: 'child',
  entry,
  args: [],
  env: () => ({}),
  logPath,
  note: () => {},
  onStart: () => {},
})
await child.ready
console.log(child.pid)
