/** `nozzle completion`: a script that lets a shell complete commands, flags and their values. */
import { toBashScript } from '../completion/bash-script.ts'
import {
  type CompletedCommand,
  firstWords,
  toCompletedCommand,
} from '../completion/completion-table.ts'
import { toFishScript } from '../completion/fish-script.ts'
import { toZshScript } from '../completion/zsh-script.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command } from '../lib/command.ts'
import { TOPICS } from './help.ts'

const WRITERS = new Map([
  ['bash', toBashScript],
  ['zsh', toZshScript],
  ['fish', toFishScript],
])

/** @param commands asked when it runs: this command is one of them. */
export function completionCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'completion',
    summary: 'print the completion script of a shell',
    positionals: ['<bash|zsh|fish>'],
    flags: {},
    details:
      'Load it in each shell:\n' +
      "  bash  echo 'source <(nozzle completion bash)' >> ~/.bashrc\n" +
      '  zsh   nozzle completion zsh > $fpath[1]/_nozzle         (before compinit)\n' +
      '  fish  nozzle completion fish > ~/.config/fish/completions/nozzle.fish\n' +
      'It is for the command `nozzle` (`npm link` in the checkout makes it).',
    examples: ['source <(nozzle completion bash)', 'nozzle completion fish | source'],
    async run({ output, positionals }) {
      const [shell = ''] = positionals
      const write = WRITERS.get(shell)
      if (write === undefined) {
        const fix = `One of ${[...WRITERS.keys()].join(', ')}.`
        throw new CliError('usage', `there is no completion for "${shell}"`, fix)
      }
      const script = write(toTable(commands()))
      output.data({ shell, script }, script)
    },
  }
}

/** What help is about is every command, too. */
function toTable(commands: readonly Command[]): readonly CompletedCommand[] {
  const table = commands.map(toCompletedCommand)
  const words = [...firstWords(table).map(({ word }) => word), ...TOPICS]
  return table.map((command) => {
    return command.name === 'help'
      ? { ...command, positionals: [{ kind: 'words', words }] }
      : command
  })
}
