/**
 * `format` of strings: what is written is always of the format; not everything of the format can be
 * written (an IPv6 address has eight groups, an e-mail address no quotes). Pure.
 */
const hex = '[0-9a-f]'
const hour = '( [01] [0-9] | "2" [0-3] )'
const sixty = '[0-5] [0-9]'
const multipleOf4 = '( [02468] [048] | [13579] [26] )'
const multipleOf4Not0 = '( "0" [48] | [2468] [048] | [13579] [26] )'
const leapYear = `( [0-9]{2} ${multipleOf4Not0} | ${multipleOf4} "00" )`
const date =
  '( [0-9]{4} "-" ( ( "0" [13578] | "1" [02] ) "-" ( "0" [1-9] | [12] [0-9] | "3" [01] )' +
  ' | ( "0" [469] | "11" ) "-" ( "0" [1-9] | [12] [0-9] | "30" )' +
  ` | "02-" ( "0" [1-9] | "1" [0-9] | "2" [0-8] ) ) | ${leapYear} "-02-29" )`
const time = `${hour} ":" ${sixty} ":" ${sixty} ( "." [0-9]{1,9} )? ( "Z" | [-+] ${hour} ":" ${sixty} )`
const label = '[a-z0-9] ( [a-z0-9-]{0,30} [a-z0-9] )?'
const octet = '( [1-9]? [0-9] | "1" [0-9]{2} | "2" [0-4] [0-9] | "25" [0-5] )'
const count = '[0-9]{1,4}'
const clock = `"T" ( ${count} "H" ( ${count} "M" ( ${count} "S" )? )? | ${count} "M" ( ${count} "S" )? | ${count} "S" )`
const days = `( ${count} "Y" ( ${count} "M" ( ${count} "D" )? )? | ${count} "M" ( ${count} "D" )? | ${count} "D" )`

/** What stands between the quotes. */
export const FORMATS: Readonly<Record<string, string>> = {
  date,
  time,
  'date-time': `${date} "T" ${time}`,
  duration: `"P" ( ${days} ( ${clock} )? | ${clock} | ${count} "W" )`,
  uuid: `${hex}{8} "-" ${hex}{4} "-" [1-8] ${hex}{3} "-" [89ab] ${hex}{3} "-" ${hex}{12}`,
  email: `[a-zA-Z0-9_]{1,32} ( [.+-] [a-zA-Z0-9_]{1,32} ){0,4} "@" ${label} ( "." ${label} ){1,4}`,
  hostname: `${label} ( "." ${label} ){0,5}`,
  ipv4: `${octet} ( "." ${octet} ){3}`,
  ipv6: `${hex}{1,4} ( ":" ${hex}{1,4} ){7}`,
}
