/**
 * GBNF of `response_format: {type: 'json_object'}`: one JSON object and nothing after it. Space
 * between tokens is bounded, or a model could write blanks for ever.
 */
export const JSON_OBJECT_GRAMMAR = String.raw`root ::= object
object ::= "{" gap ( member ( gap "," gap member )* gap )? "}"
member ::= string gap ":" gap value
array ::= "[" gap ( value ( gap "," gap value )* gap )? "]"
value ::= object | array | string | number | "true" | "false" | "null"
string ::= "\"" character* "\""
character ::= [^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex )
hex ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]{0,15} ) ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,3} )?
gap ::= [ \t\n]{0,16}
`
