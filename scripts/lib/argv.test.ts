import { describe, expect, it } from 'vitest'
import { type FlagSpecs, parseArguments } from './argv.ts'

const specs: FlagSpecs = {
  model: { type: 'string', value: 'name', help: '' },
  seed: { type: 'string', value: 'n', help: '' },
  'dry-run': { type: 'boolean', help: '' },
}
const parse = (...args: string[]) => parseArguments(args, specs, ['<dir>', '[prompt]'])

describe('parseArguments', () => {
  it('reads flags in both forms, in any order, and leaves the rest as positionals', () => {
    const { flags, positionals } = parse('--model=a', './x', '--dry-run', '--seed', '7', 'hi')
    expect(positionals).toEqual(['./x', 'hi'])
    expect(flags.text('model')).toBe('a')
    expect(flags.isSet('dry-run')).toBe(true)
    expect(flags.integer('seed', 0, 10)).toBe(7)
  })

  it('takes everything after -- as positional', () => {
    expect(parse('./x', '--', '--model').positionals).toEqual(['./x', '--model'])
  })

  it.each([
    [['./x', '--modle', 'a'], 'unknown flag --modle; did you mean --model?'],
    [['./x', '-q'], 'unknown flag -q'],
    [['./x', '--model'], '--model <value> argument missing'],
    [['./x', '--seed', '-5'], '--seed needs a value; one that begins with - is written --seed=-…'],
    [['', 'hi'], '<dir> is needed'],
    [['./x', '--dry-run=yes'], '--dry-run does not take an argument'],
    [[], '<dir> is needed'],
    [['./x', 'hi', 'there'], 'unexpected argument "there"; arguments are: <dir> [prompt]'],
  ])('refuses %j with "%s"', (args, message) => {
    expect(() => parse(...args)).toThrow(expect.objectContaining({ reason: 'usage', message }))
  })

  it.each([
    ['11', '--seed must be a number from 0 to 10, not "11"'],
    ['1.5', '--seed must be a whole number, not "1.5"'],
    ['', '--seed must be a number from 0 to 10, not ""'],
    ['NaN', '--seed must be a number from 0 to 10, not "NaN"'],
  ])('refuses --seed "%s"', (text, message) => {
    const { flags } = parse('./x', `--seed=${text}`)
    expect(() => flags.integer('seed', 0, 10)).toThrow(message)
  })

  it('tells an absent flag from a needed one', () => {
    const { flags } = parse('./x')
    expect(flags.text('model')).toBeUndefined()
    expect(flags.integer('seed', 0, 10)).toBeUndefined()
    expect(() => flags.requiredText('model')).toThrow('--model is needed')
  })
})
