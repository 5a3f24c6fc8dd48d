"""What the official Python SDK makes of a pool, as one line of JSON: argv is base URL, key, model."""

import json
import sys
from enum import Enum

from openai import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    pydantic_function_tool,
)
from pydantic import BaseModel

BASE_URL, API_KEY, MODEL = sys.argv[1:4]
client = OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
messages = [{"role": "user", "content": "Say hello to my cat."}]
few = {"model": MODEL, "messages": messages, "max_tokens": 8, "temperature": 0}


class Colour(str, Enum):
    red = "red"
    green = "green"


class Answer(BaseModel):
    colour: Colour


def failure(call):
    try:
        call()
    except (AuthenticationError, BadRequestError, NotFoundError) as error:
        body = {"code": error.code, "param": error.param, "type": error.type}
        return {"class": type(error).__name__, "request_id": error.request_id, **body}
    raise AssertionError("it was served")


whole = client.chat.completions.create(**few, logprobs=True, top_logprobs=2)
chunks = list(
    client.chat.completions.create(**few, stream=True, stream_options={"include_usage": True})
)
parsed = client.chat.completions.parse(
    **{**few, "max_tokens": 40}, response_format=Answer
)
called = client.chat.completions.parse(
    **{**few, "max_tokens": 60},
    tools=[pydantic_function_tool(Answer, name="paint")],
    tool_choice="required",
    parallel_tool_calls=False,
)
call = called.choices[0].message.tool_calls[0]
result = {"role": "tool", "tool_call_id": call.id, "content": "painted"}
told = client.chat.completions.create(
    **{**few, "messages": [*messages, called.choices[0].message, result]}
)
text = client.completions.create(model=MODEL, prompt="Count: one, two,", max_tokens=5, temperature=0)
raw = client.chat.completions.with_raw_response.create(**few)

print(
    json.dumps(
        {
            "text": whole.choices[0].message.content,
            "request_id": whole._request_id,
            "usage": whole.usage.model_dump(exclude_none=True),
            "logprobs": "".join(t.token for t in whole.choices[0].logprobs.content),
            "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
            "streamed_usage": chunks[-1].usage.model_dump(exclude_none=True),
            "finish": whole.choices[0].finish_reason,
            "colour": parsed.choices[0].message.parsed.colour.value,
            "tool": {
                "name": call.function.name,
                "colour": call.function.parsed_arguments.colour.value,
            },
            "tool_finish": called.choices[0].finish_reason,
            "tool_result": told.choices[0].message.content,
            "completion": text.choices[0].text,
            "models": [model.id for model in client.models.list()],
            "model": client.models.retrieve("demo/ticket-triage").owned_by,
            "header": raw.headers["x-request-id"],
            "extension": client.chat.completions.create(
                **few, extra_body={"top_k": 1}
            ).choices[0].message.content,
            "refused": failure(
                lambda: client.chat.completions.create(**few, extra_body={"best": 1})
            ),
            "missing": failure(
                lambda: client.chat.completions.create(**{**few, "model": "no-such-model"})
            ),
            "stranger": failure(
                lambda: client.with_options(api_key="sk-wrong").models.list()
            ),
        }
    )
)
