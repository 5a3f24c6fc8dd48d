import { describe, expect, it } from 'vitest'
import { readToolCall } from './tool-call-text.ts'

describe('readToolCall', () => {
  it.each([
    [
      '{"name": "add", "arguments": {"a": 1, "b": [2, {"c": "}"}]}}',
      '{"a": 1, "b": [2, {"c": "}"}]}',
    ],
    ['\n {"arguments":{"a":"x,\\"y\\": }"} , "name":"add"}\n', '{"a":"x,\\"y\\": }"}'],
    // Digits that a number of JavaScript would lose.
    ['{"name":"add","arguments":{"id":12345678901234567890}}', '{"id":12345678901234567890}'],
    ['{"name":"add","arguments":{}}', '{}'],
    ['{"name":"add","arguments":null}', '{}'],
    ['{"name":"add"}', '{}'],
    // As JSON.parse has it, the last counts.
    ['{"name":"x","name":"add","arguments":{"a":1},"arguments":{"a":2}}', '{"a":2}'],
    ['{"n\\u0061me":"add","more":[1,2],"arguments":{ "a" : 1 }}', '{ "a" : 1 }'],
  ])('takes %s', (json, text) => {
    expect(readToolCall(json)).toEqual({ name: 'add', arguments: text })
  })

  it.each([
    '',
    'add',
    '[]',
    'null',
    '"add"',
    '{}',
    '{"name":"add","arguments":{}',
    '{"name":"add","arguments":{}} and more',
    '{"name":7,"arguments":{}}',
    '{"name":null}',
    '{"name":"add","arguments":"{}"}',
    '{"name":"add","arguments":[1]}',
    "{'name':'add'}",
    '{"arguments":{}}',
  ])('finds no call in %s', (json) => {
    expect(readToolCall(json)).toBeNull()
  })
})
