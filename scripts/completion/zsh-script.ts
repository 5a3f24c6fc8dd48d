/** The completion script for zsh. Pure: the table in, the script out. */
import {
  type CompletedCommand,
  type CompletedFlag,
  type CompletedWord,
  firstWords,
  spellings,
  type Value,
  verbsByNoun,
} from './completion-table.ts'

export function toZshScript(commands: readonly CompletedCommand[]): string {
  const verbs = [...verbsByNoun(commands)].map(([noun, words]) => {
    return `      ${noun}) ${setArray('verbs', words)}; _describe verb verbs; return ;;`
  })
  const pairs = commands
    .filter(({ name }) => name.includes(' '))
    .map(({ name }) => `    '${name}') shift 2 words; (( CURRENT -= 2 )) ;;`)
  return `#compdef nozzle
# nozzle completion for zsh; made by \`nozzle completion zsh\`.
# Load it now: source <(nozzle completion zsh)

# First words of a table, but for its head; nothing where the edge cannot be asked.
_nozzle_models() {
  local -a models
  local word rest
  nozzle model ls --no-input 2>/dev/null | while read -r word rest; do
    [[ "$word" == (NAME|'(none)') ]] || models+=("$word")
  done
  compadd -a models
}

_nozzle_arguments() {
  case "$1" in
${commands.map(toArgumentsCase).join('\n')}
    *) return 1 ;;
  esac
}

_nozzle() {
  local -a nouns verbs
  if (( CURRENT == 2 )); then
    ${setArray('nouns', firstWords(commands))}
    _describe command nouns
    return
  fi
  local noun="$words[2]" pair="$words[2] $words[3]"
  if (( CURRENT == 3 )); then
    case "$noun" in
${verbs.join('\n')}
    esac
  fi
  # _arguments sees the command as one word, then its arguments.
  case "$pair" in
${pairs.join('\n')}
    *) pair="$noun"; shift words; (( CURRENT -= 1 )) ;;
  esac
  _nozzle_arguments "$pair"
}

if [ "\${funcstack[1]}" = _nozzle ]; then
  _nozzle "$@"
else
  compdef _nozzle nozzle
fi`
}

function toArgumentsCase({ name, flags, positionals }: CompletedCommand): string {
  const specs = [
    ...flags.flatMap(toFlagSpecs),
    ...positionals.map((value) => `:argument:${toAction(value)}`),
  ]
  return `    '${name}') _arguments -s ${specs.map(quote).join(' ')} ;;`
}

function toFlagSpecs(flag: CompletedFlag): string[] {
  const help = flag.help.replaceAll(/[\\[\]:]/g, '\\$&')
  return spellings(flag).map((spelling) => {
    // --flag value and --flag=value.
    const sign = flag.value !== null && spelling.startsWith('--') ? '=' : ''
    const value = flag.value === null ? '' : `:value:${toAction(flag.value)}`
    return `${spelling}${sign}[${help}]${value}`
  })
}

function toAction(value: Value): string {
  if (value.kind === 'words') return `(${value.words.join(' ')})`
  if (value.kind === 'unknown') return ' '
  if (value.kind === 'model') return '_nozzle_models'
  return value.kind === 'folder' ? '_files -/' : '_files'
}

function setArray(name: string, words: readonly CompletedWord[]): string {
  const items = words.map(({ word, help }) => quote(`${word}:${help.replaceAll(':', '\\:')}`))
  return `${name}=(${items.join(' ')})`
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
