"""Speaks to a running `wikigpt serve` by OpenAI's own client.

    wikigpt serve runs/001 --slots 1 --queue 2 [--api-key KEY]
    pip install openai && python tools/checks/serve_openai.py http://127.0.0.1:8080 [KEY]

The server has to have one slot and a queue of two, so that it is seen to be full.
"""

import sys

import openai


def main(address: str, key: str | None = None) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=key or "any", max_retries=0)
    if key is not None:
        try:
            client.with_options(api_key=key + "x").models.list()
            raise AssertionError("another key is taken")
        except openai.AuthenticationError as found:
            print(f"{type(found).__name__}: {found.body['message']}")
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).id == model.id
    ask = dict(model=model.id, prompt="The ", max_tokens=30, temperature=0)

    whole = client.completions.create(**ask, logprobs=3)
    choice = whole.choices[0]
    assert choice.finish_reason in ("length", "stop") and whole.usage.completion_tokens <= 30
    tokens = choice.logprobs.tokens
    # Tokens that are part of a character show their bytes.
    assert "".join(tokens) == choice.text or any(token.startswith("bytes:") for token in tokens)
    assert all(len(top) == 3 for top in choice.logprobs.top_logprobs)
    assert choice.logprobs.text_offset[0] == 0

    stream = client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == choice.text
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens

    seeded = dict(ask, temperature=1.0, seed=5, top_p=0.9, extra_body={"top_k": 20})
    once, again = (client.completions.create(**seeded).choices[0].text for _ in range(2))
    assert once == again
    two = client.completions.create(**dict(ask, prompt=["A", "B"], echo=True))
    assert [c.text[0] for c in two.choices] == ["A", "B"]
    stop = choice.text[len(choice.text) // 2]
    assert client.completions.create(**ask, stop=[stop]).choices[0].text == choice.text.split(stop)[0]
    scored = client.completions.create(**dict(ask, prompt="The river", max_tokens=0), echo=True, logprobs=0)
    assert scored.choices[0].text == "The river" and scored.choices[0].logprobs.token_logprobs[0] is None

    for wrong, error in [
        (dict(ask, temperature=-1), openai.BadRequestError),
        (dict(ask, prompt=[]), openai.BadRequestError),
        (dict(ask, n=4), openai.BadRequestError),
        (dict(ask, model="no-such-model"), openai.NotFoundError),
        (dict(ask, extra_body={"temprature": 1}), openai.BadRequestError),
    ]:
        try:
            client.completions.create(**wrong)
        except error as found:
            print(f"{type(found).__name__}: {found.body['message']}")
        else:
            raise AssertionError(f"{wrong} is taken")

    # A full server says so, and a client that goes away makes room.
    endless = dict(ask, prompt="A", max_tokens=4096, stream=True)
    streams = [client.completions.create(**dict(endless, n=3))]
    try:
        client.completions.create(**ask)
        raise AssertionError("a full server takes more")
    except openai.RateLimitError as found:
        print(f"{type(found).__name__}: {found.body['message']}")
    streams[0].close()
    patient = client.with_options(max_retries=10)
    assert patient.completions.create(**ask).choices[0].text == choice.text
    print("the openai client", openai.__version__, "gets what it asks for")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), *sys.argv[2:])
