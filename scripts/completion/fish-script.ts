/** The completion script for fish, 3.0 and later. Pure: the table in, the script out. */
import {
  type CompletedCommand,
  type CompletedFlag,
  firstWords,
  flagsWithValue,
  type Value,
  verbsByNoun,
} from './completion-table.ts'

export function toFishScript(commands: readonly CompletedCommand[]): string {
  const nouns = firstWords(commands).map(
    ({ word, help }) => `complete -c nozzle -n '__nozzle_at 0' -a ${word} -d ${quote(help)}`,
  )
  const verbs = [...verbsByNoun(commands)].flatMap(([noun, words]) =>
    words.map(({ word, help }) => {
      return `complete -c nozzle -n '__nozzle_at 1 ${noun}' -a ${word} -d ${quote(help)}`
    }),
  )
  return `# nozzle completion for fish; made by \`nozzle completion fish\`.
# Load it now: nozzle completion fish | source

# The words before the cursor that are no flags, and no values of flags.
function __nozzle_words
    set -l skip ''
    for token in (commandline -opc)[2..-1]
        if test -n "$skip"
            set skip ''
        else if contains -- $token ${flagsWithValue(commands).join(' ')}
            set skip yes
        else if not string match -q -- '-*' $token
            echo $token
        end
    end
end

# __nozzle_at COUNT [WORD…]: exactly so many words stand there, and they begin with these.
function __nozzle_at
    set -l words (__nozzle_words)
    test (count $words) -eq $argv[1]; or return 1
    __nozzle_in $argv[2..-1]
end

# __nozzle_in [WORD…]: the words begin with these.
function __nozzle_in
    set -l words (__nozzle_words)
    test (count $words) -ge (count $argv); or return 1
    for i in (seq (count $argv))
        test "$words[$i]" = "$argv[$i]"; or return 1
    end
end

# First words of a table, but for its head; nothing where the edge cannot be asked.
function __nozzle_models
    for line in (nozzle model ls --no-input 2>/dev/null)
        set -l word (string split -f 1 ' ' -- $line)
        contains -- $word NAME '(none)'; or echo $word
    end
end

complete -c nozzle -f
${[...nouns, ...verbs, ...commands.flatMap(toCommandLines)].join('\n')}`
}

function toCommandLines({ name, flags, positionals }: CompletedCommand): string[] {
  const wordCount = name.split(' ').length
  const places = positionals.flatMap((value, i) => {
    const action = toAction(value)
    if (action === '') return []
    return [`complete -c nozzle -n '__nozzle_at ${wordCount + i} ${name}' ${action}`]
  })
  return [...flags.map((flag) => toFlagLine(name, flag)), ...places]
}

function toFlagLine(name: string, { name: long, short, help, value }: CompletedFlag): string {
  const letter = short === null ? '' : ` -s ${short}`
  const action = value === null ? '' : ` ${toRequirement(value)} ${toAction(value)}`
  const line = `complete -c nozzle -n '__nozzle_in ${name}' -l ${long}${letter}${action}`
  return `${line.trimEnd()} -d ${quote(help)}`
}

/** A value has to follow; -x keeps file names out of it. */
function toRequirement({ kind }: Value): string {
  return kind === 'file' ? '-r' : '-x'
}

function toAction(value: Value): string {
  if (value.kind === 'words') return `-a '${value.words.join(' ')}'`
  if (value.kind === 'unknown') return ''
  if (value.kind === 'model') return "-a '(__nozzle_models)'"
  return value.kind === 'folder' ? "-a '(__fish_complete_directories)'" : '-F'
}

function quote(text: string): string {
  return `'${text.replaceAll(/[\\']/g, '\\$&')}'`
}
