/** The completion script for bash, 3.2 and later. Pure: the table in, the script out. */
import {
  type CompletedCommand,
  firstWords,
  flagsWithValue,
  spellings,
  type Value,
  verbsByNoun,
} from './completion-table.ts'

export function toBashScript(commands: readonly CompletedCommand[]): string {
  const nouns = firstWords(commands).map(({ word }) => word)
  const verbs = [...verbsByNoun(commands)].map(
    ([noun, words]) => `    ${noun}) echo '${words.map(({ word }) => word).join(' ')}' ;;`,
  )
  return `# nozzle completion for bash; made by \`nozzle completion bash\`.
# Load it now: source <(nozzle completion bash)

_nozzle_verbs() {
  case "$1" in
${verbs.join('\n')}
  esac
}

_nozzle_flags() {
  case "$1" in
${commands.map(toFlagsCase).join('\n')}
  esac
}

# First words of a table, but for its head; nothing where the edge cannot be asked.
_nozzle_models() {
  nozzle model ls --no-input 2>/dev/null | while read -r word _; do
    case "$word" in NAME|'(none)') ;; *) echo "$word" ;; esac
  done
}

# What may stand there: words, @file, @folder, @model, or nothing that is known.
_nozzle_values() {
  case "$1" in
${commands.flatMap(toValueCases).join('\n')}
  esac
}

_nozzle() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}"
  local word flag='' command='' values='' skip='' count=0 i
  local IFS=$' \\t\\n'
  COMPREPLY=()
  # bash takes --flag=value apart at the sign.
  if [ "$cur" = '=' ]; then
    flag="$before" cur=''
  elif [ "$before" = '=' ] && [ "$COMP_CWORD" -gt 1 ]; then
    flag="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  local words=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [ "$word" = '=' ]; then
      skip=yes
      continue
    fi
    if [ -n "$skip" ]; then
      skip=''
      continue
    fi
    case "$word" in
      ${flagsWithValue(commands).join('|')}) [ "\${COMP_WORDS[i+1]}" = '=' ] || skip=yes ;;
      -*) ;;
      *) words[\${#words[@]}]="$word" ;;
    esac
  done
  [ -n "$skip" ] && [ -z "$flag" ] && flag="$before"
  if [ -n "\${words[1]}" ] && [ -n "$(_nozzle_flags "\${words[0]} \${words[1]}")" ]; then
    command="\${words[0]} \${words[1]}" count=$((\${#words[@]} - 2))
  elif [ -n "\${words[0]}" ] && [ -n "$(_nozzle_flags "\${words[0]}")" ]; then
    command="\${words[0]}" count=$((\${#words[@]} - 1))
  fi
  if [ -n "$flag" ]; then
    values="$(_nozzle_values "$command $flag")"
  elif [ -n "$command" ] && [ "\${cur:0:1}" = '-' ]; then
    values="$(_nozzle_flags "$command")"
  elif [ -n "$command" ]; then
    values="$(_nozzle_values "$command $count")"
    if [ -z "$values" ] && [ -z "$cur" ]; then values="$(_nozzle_flags "$command")"; fi
  elif [ "\${#words[@]}" -eq 0 ]; then
    values='${nouns.join(' ')}'
  elif [ "\${#words[@]}" -eq 1 ]; then
    values="$(_nozzle_verbs "\${words[0]}")"
  fi
  [ "$values" = '@model' ] && values="$(_nozzle_models)"
  case "$values" in
    @*)
      compopt -o filenames 2>/dev/null
      IFS=$'\\n'
      if [ "$values" = '@folder' ]; then
        COMPREPLY=($(compgen -d -- "$cur"))
      else
        COMPREPLY=($(compgen -f -- "$cur"))
      fi
      ;;
    *) COMPREPLY=($(compgen -W "$values" -- "$cur")) ;;
  esac
}

complete -F _nozzle nozzle`
}

function toFlagsCase({ name, flags }: CompletedCommand): string {
  return `    '${name}') echo '${flags.flatMap(spellings).join(' ')}' ;;`
}

/** By command and flag, or by command and the argument's place from 0 on. */
function toValueCases({ name, flags, positionals }: CompletedCommand): string[] {
  const places = [
    ...flags.flatMap((flag) => spellings(flag).map((place) => ({ place, value: flag.value }))),
    ...positionals.map((value, i) => ({ place: String(i), value })),
  ]
  return places.flatMap(({ place, value }) => {
    const known = value === null ? '' : toWords(value)
    return known === '' ? [] : [`    '${name} ${place}') echo '${known}' ;;`]
  })
}

function toWords(value: Value): string {
  if (value.kind === 'words') return value.words.join(' ')
  return value.kind === 'unknown' ? '' : `@${value.kind}`
}
