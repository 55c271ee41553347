"""Writes examples/requests.jsonl: 40 requests in the OpenAI Batch format, easy enough for a model of 135 M parameters.

Half of them share one long few-shot prefix and want one word; the other half are short prompts that want long answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("requests.jsonl")

SOLVED_REVIEWS = [
    ("The soup arrived hot, the bread was fresh, and our waiter remembered every wish we had.", "positive"),
    ("I waited two hours for a cold pizza, and nobody said sorry when it finally came.", "negative"),
    ("This lamp is bright, easy to clean, and looks lovely next to my reading chair.", "positive"),
    ("The zip broke on the first morning, and the shop refused to take the bag back.", "negative"),
    ("What a wonderful concert: the band played for three hours and the crowd sang along.", "positive"),
    ("The hotel room smelled of smoke and the neighbours shouted until four in the morning.", "negative"),
    ("My daughter loves this puzzle and asks for it every evening after dinner.", "positive"),
    ("The headphones hiss, slip off my ears, and stopped charging after a single week.", "negative"),
    ("Our guide knew every bird by its song and made the long walk feel short.", "positive"),
    ("A dull film with a silly plot; half of the audience left before the end.", "negative"),
    ("The new bakery on the corner makes the best apple cake I have ever tasted.", "positive"),
    ("The paint peeled off within days and the manual was missing two of its pages.", "negative"),
    ("Checking in took one minute, and the view over the harbour was breathtaking.", "positive"),
    ("The customer service line kept me on hold all afternoon and then hung up.", "negative"),
    ("These boots kept my feet dry and warm through a whole week of heavy rain.", "positive"),
    ("The salad was limp, the fish was burnt, and the bill was wrong twice.", "negative"),
]

NEW_REVIEWS = [
    "The garden is beautiful and the staff greeted us with a smile every day.",
    "The chair collapsed the first time I sat on it.",
    "A charming little book that I finished with joy in a single evening.",
    "The train was late, dirty, and so crowded that I could not breathe.",
    "I have never slept better than on this mattress.",
    "The screen cracked in my pocket, and the repair cost more than the phone.",
    "The chef cooked us a perfect dinner and even came out to say hello.",
    "Terrible coffee, rude staff, and a table that was never wiped.",
    "The bicycle rides smoothly and was easy to put together.",
    "The tent leaked all night and we drove home early, wet and angry.",
    "Such a funny play! We laughed from the first scene to the last.",
    "The blender is loud, weak, and leaves big lumps in everything.",
    "The teacher was patient and explained each step with great care.",
    "My parcel came three weeks late and the vase inside was in pieces.",
    "The museum is a delight for children and grown-ups alike.",
    "The update deleted all my notes, and nobody answers my letters.",
    "Fresh strawberries, friendly farmers, and a lovely view of the hills.",
    "The shower was freezing and the towels had holes in them.",
    "The kitten calendar made my whole office happy.",
    "The jacket lost its colour in the first wash and now looks awful.",
]

STORY_SUBJECTS = [
    "a lighthouse keeper who makes friends with a whale",
    "a small robot that learns to bake bread",
    "two brothers who find an old map in the attic",
    "a fox that is afraid of the dark",
    "a village where it snows in the summer",
    "a girl who can talk to clouds",
    "a clock that runs backwards",
    "an old sailor and his parrot",
]

QUESTIONS = [
    "Why is the sky blue? Explain it to a child.",
    "How do I make a cup of tea? Give me the steps.",
    "What are three good reasons to plant a tree?",
    "Describe a day at the beach.",
    "Why do people need sleep?",
]

OPENINGS = [
    "Once upon a time, in a quiet valley behind the mountains, there lived",
    "The most important thing to know about growing tomatoes is",
    "Dear friend, I am writing to you from the island of",
]


def main() -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in make_rows()]
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} requests in {OUTPUT}")


def make_rows() -> Iterator[dict[str, Any]]:
    yield from short_answers()
    yield from long_answers()


def short_answers() -> Iterator[dict[str, Any]]:
    solved = "".join(f"Review: {text}\nSentiment: {label}\n\n" for text, label in SOLVED_REVIEWS)
    prefix = f"Decide for each review whether its sentiment is positive or negative.\n\n{solved}"
    for i, review in enumerate(NEW_REVIEWS):
        body = {"prompt": f"{prefix}Review: {review}\nSentiment:", "max_tokens": 4, "temperature": 0, "stop": "\n"}
        if i == 0:
            body["logprobs"] = 3
        yield completion(f"review-{i:02}", body)


def long_answers() -> Iterator[dict[str, Any]]:
    for i, subject in enumerate(STORY_SUBJECTS):
        prompt = f"Write a short story about {subject}."
        yield chat(f"story-{i:02}", [user(prompt)], max_tokens=144, temperature=0.6, top_p=0.9, seed=i)
    for i, question in enumerate(QUESTIONS):
        yield chat(f"question-{i:02}", [user(question)], max_tokens=112, temperature=0)
    for i, opening in enumerate(OPENINGS):
        yield completion(f"opening-{i:02}", {"prompt": opening, "max_tokens": 96, "temperature": 0})

    dragon = "Invent a name for a friendly dragon and describe it."
    yield chat("two-choices", [user(dragon)], max_tokens=96, n=2, temperature=0.7, top_p=0.9, seed=7)
    capital = "What is the capital of France?"
    yield chat("with-logprobs", [user(capital)], max_tokens=16, temperature=0, logprobs=True, top_logprobs=2)
    gardener = {"role": "system", "content": "You are a cheerful gardener. Answer in a few sentences."}
    yield chat("with-system-message", [gardener, user("What is rain?")], max_tokens=96, temperature=0)
    days = "The days of the week are Monday, Tuesday, Wednesday,"
    yield completion("with-stop", {"prompt": days, "max_tokens": 96, "temperature": 0, "stop": ["Sunday", "\n"]})


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def chat(custom_id: str, messages: list[dict[str, str]], **fields: Any) -> dict[str, Any]:
    return row(custom_id, "/v1/chat/completions", {"messages": messages, **fields})


def completion(custom_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return row(custom_id, "/v1/completions", body)


def row(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


if __name__ == "__main__":
    main()
