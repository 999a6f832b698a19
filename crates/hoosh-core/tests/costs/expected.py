#!/usr/bin/env python3
"""Computes what calls to 200 models cost, in nano-dollars, by a listing's prices and nothing of hoosh's.

    python3 expected.py models.jsonl > expected.tsv

The listing is models.dev's, commit f3fc6922 of 2026-07-02 (MIT), one model a line. Exact: prices are read as decimals and
summed as fractions; only the sum is rounded, half up. Models of which hoosh's catalogue knows better than the listing are
left out: newer.tsv names them, each with the reason.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

# The calls: tokens by the listing's kinds of price.
PLAIN = {"input": 1_234, "output": 567}
CACHED = {"input": 321, "cache_read": 7_777, "output": 89}
MIXED = {"input": 150_001, "cache_read": 150_003, "cache_write": 1_009, "output": 1_013, "reasoning": 2_027,
         "input_audio": 331, "output_audio": 77}
# What has no price of its own costs what it would without the distinction; a cache is written for a quarter more.
INSTEAD = {"cache_read": ("input", 1), "cache_write": ("input", Fraction(5, 4)), "reasoning": ("output", 1),
           "input_audio": ("input", 1), "output_audio": ("output", 1)}
# Where the listing has two words.
WORDS = {"cached_input": "cache_read"}
PROVIDERS = {"fireworks-ai": "fireworks", "moonshotai": "moonshot", "togetherai": "together", "xai": "grok"}
COUNT = 200


def cost(prices, call):
    prompt = sum(tokens for kind, tokens in call.items() if "output" not in kind and kind != "reasoning")
    here = prices
    for tier in sorted(prices.get("tiers", []), key=lambda tier: tier["tier"]["size"]):
        if prompt > tier["tier"]["size"]:
            here = tier
    total = Fraction(0)
    for kind, tokens in call.items():
        if kind in here:
            price = Fraction(here[kind])
        else:
            other, times = INSTEAD[kind]
            price = Fraction(here[other]) * times
            if kind == "cache_write":  # a price per million is whole nano-dollars; half of one goes up
                price = Fraction(-(-price * 10**9 // 1), 10**9)
        total += tokens * price
    # Dollars per million tokens: a thousand nano-dollars per token.
    return int(total * 1_000 + Fraction(1, 2))


def main():
    newer = Path(__file__).with_name("newer.tsv").read_text().splitlines()
    left_out = {line.split("\t")[0] for line in newer}
    rows = [json.loads(line, parse_float=str, parse_int=int) for line in open(sys.argv[1])]
    rows = [row | {"provider": PROVIDERS.get(row["provider"], row["provider"])} for row in rows if row.get("cost")]
    rows = [row for row in rows if f"{row['provider']}/{row['model']}" not in left_out]
    rows.sort(key=lambda row: (row["provider"], row["model"]))
    print(f"# What calls cost in nano-dollars, by expected.py from models.dev, commit f3fc6922 of 2026-07-02 (MIT): {COUNT} models")
    print("# provider\tmodel\tplain\tcached\tmixed")
    for at in range(COUNT):
        row = rows[at * len(rows) // COUNT]
        prices = {WORDS.get(kind, kind): price for kind, price in row["cost"].items()}
        costs = (cost(prices, call) for call in (PLAIN, CACHED, MIXED))
        print(row["provider"], row["model"], *costs, sep="\t")


main()
