#!/usr/bin/env python3
"""Writes src/catalog.jsonl from a models.dev listing, and keeps what was corrected by hand.

    python3 catalog.py models.jsonl > src/catalog.jsonl

The input has one model per line, in models.dev's words (cost, limit, modalities, ...). Everything that was found wrong
or missing in it is a row of the tables below, so that the next listing is corrected the same way; a figure that looks
odd and has no row stops the script. What each rule is for stands at the head of src/catalog.rs.
"""

import json
import sys
from decimal import Decimal

READ = "2026-11-24"  # the day the stored copies named below were read
SOURCES = {
    "md": {"name": "models.dev, commit f3fc6922", "url": "https://github.com/anomalyco/models.dev", "date": "2026-07-02", "licence": "MIT"},
    "md_base": {"name": "models.dev, base models and other rows that an entry of f3fc6922 inherits from (stored copies)", "url": "https://github.com/anomalyco/models.dev", "date": READ, "licence": "MIT"},
    "md_later": {"name": "models.dev, commit 0654d77c: Alibaba's price tiers", "url": "https://github.com/anomalyco/models.dev", "date": READ, "licence": "MIT"},
    "alibaba": {"name": "Alibaba Cloud Model Studio, Context Cache: an automatic hit costs 20 % of the input price", "url": "https://www.alibabacloud.com/help/en/model-studio/context-cache", "date": "2026-10-11"},
    "anthropic": {"name": "Anthropic, prompt caching: a one-hour write costs twice the input price", "url": "https://platform.claude.com/docs/en/build-with-claude/prompt-caching", "date": READ},
    "deepseek": {"name": "DeepSeek, Models & Pricing: prices in and off peak hours (stored copies of several days); since when each holds as its notices were quoted", "url": "https://api-docs.deepseek.com/quick_start/pricing", "date": READ},
    "perplexity": {"name": "Perplexity, API pricing: request fee at the default (low) search context", "url": "https://docs.perplexity.ai/getting-started/pricing", "date": READ},
    "vercel": {"name": "Vercel AI Gateway, GPT-5 Chat", "url": "https://vercel.com/ai-gateway/models/gpt-5-chat", "date": READ},
}

# models.dev's names where hoosh's preset has another.
PROVIDERS = {"fireworks-ai": "fireworks", "moonshotai": "moonshot", "ollama-cloud": "ollama_cloud", "togetherai": "together", "xai": "grok"}

# What an entry inherits from its base model, which the listing leaves out: limit (context, input, output), modalities,
# and the abilities reasoning, tools, structured output, temperature in that order ("y", "n" or "?").
BASE = {
    ("cerebras", "gpt-oss-120b"): ((131072, None, 40960), "text>text", "yyyy"),
    ("cohere", "command-a-plus-05-2026"): ((128000, None, 64000), "text,image>text", "yyyy"),
    ("cohere", "north-mini-code-1-0"): ((256000, None, 64000), "text>text", "yyyy"),
    ("fireworks", "accounts/fireworks/models/deepseek-v4-flash"): ((1000000, None, 384000), "text>text", "yyyy"),
    ("fireworks", "accounts/fireworks/models/deepseek-v4-pro"): ((1000000, None, 384000), "text>text", "yyyy"),
    ("google", "gemini-2.5-flash"): ((1048576, None, 65536), "text,image,audio,video,pdf>text", "yyyy"),
    ("google", "gemini-2.5-pro"): ((1048576, None, 65536), "text,image,audio,video,pdf>text", "yyyy"),
    ("google", "gemini-3-pro-image-preview"): ((131072, None, 32768), "text,image>text,image", "yn?y"),
    ("groq", "openai/gpt-oss-120b"): ((131072, None, 65536), "text>text", "yyyy"),
    ("mistral", "mistral-medium-latest"): ((262144, None, 262144), "text,image>text", "ny?y"),
    ("moonshot", "kimi-k2.7-code"): ((262144, None, 262144), "text,image,video>text", "yyyy"),
    ("moonshot", "kimi-k2.7-code-highspeed"): ((262144, None, 262144), "text,image,video>text", "yyyy"),
    ("ollama_cloud", "glm-5.2"): ((976000, None, 131072), "text>text", "yyyy"),
    ("ollama_cloud", "kimi-k2.7-code"): ((262144, None, 262144), None, "yyyy"),
    ("ollama_cloud", "nemotron-3-ultra"): ((262144, None, 128000), "text>text", "yy?y"),
    ("openai", "gpt-5"): ((400000, 272000, 128000), "text,image>text", "yyyn"),
    ("openai", "gpt-image-1"): (None, "text,image>image", "nn?n"),
    ("openai", "gpt-image-1.5"): (None, "text,image>text,image", "nn?n"),
    ("zai", "glm-5"): ((204800, None, 131072), "text>text", "yy?y"),
    ("zai", "glm-5.1"): ((200000, None, 131072), "text>text", "yyyy"),
    ("zai", "glm-5.2"): ((1000000, None, 131072), "text>text", "yyyy"),
}

# No price: unknown is not zero, and a price that misses the main part of the bill is worse than none.
UNPRICED = {
    ("alibaba", "qwen2-5-omni-7b"): "unpriced: it answers in audio and the price of audio output is not known",
    ("alibaba", "qwen3-asr-flash"): "unpriced: billed by the second of audio ($0.000035), not by the token",
    ("cohere", "north-mini-code-1-0"): "unpriced: listed at zero, which is a free tier and no price",
    ("google", "gemini-flash-latest"): "unpriced: the alias moves, and the listed price is that of its target of 2025-09",
    ("google", "gemini-flash-lite-latest"): "unpriced: the alias moves, and the listed price is that of its target of 2025-09",
    ("lmstudio", "openai/gpt-oss-20b"): "unpriced: runs locally, nobody bills it",
    ("lmstudio", "qwen/qwen3-30b-a3b-2507"): "unpriced: runs locally, nobody bills it",
    ("lmstudio", "qwen/qwen3-coder-30b"): "unpriced: runs locally, nobody bills it",
    ("mistral", "labs-devstral-small-2512"): "unpriced: listed at zero, which is a free trial and no price",
    ("openai", "gpt-image-2"): "unpriced: image input costs more than the listed text input",
    ("perplexity", "sonar-deep-research"): "unpriced: searches ($5 per 1,000) and citation tokens ($2 per million) are billed too",
    ("zai", "glm-4.5-flash"): "unpriced: listed at zero, which is a free tier and no price",
    ("zai", "glm-4.7-flash"): "unpriced: listed at zero, which is a free tier; others list $0.07 and $0.40 per million",
}

# Cache prices that cannot be: dropped, so that the fallback (never cheaper) holds.
DROP = {
    ("anthropic", "claude-3-sonnet-20240229"): ({"cache_write"}, "cache write of $0.30 dropped: below the input price, and the model has no cache"),
    ("cerebras", "zai-glm-4.7"): ({"cache_read", "cache_write"}, "cache prices of zero dropped: cached tokens are billed as input"),
    ("openai", "gpt-3.5-turbo"): ({"cache_read"}, "cache read of zero dropped: the model has no cache"),
}
# Z.AI stores cached input for nothing "for a limited time"; writing it is still input.
DROP |= {("zai", m): ({"cache_write"}, None) for m in (
    "glm-4.5", "glm-4.5-air", "glm-4.6", "glm-4.7", "glm-4.7-flashx", "glm-5", "glm-5-turbo", "glm-5.1", "glm-5.2", "glm-5v-turbo")}

# Alibaba bills by prompt size and at 20 % for an automatic cache hit; the listing lacks most of it. Each row: (above,
# input, output, reasoning or None, cache write or None), the first one being the base price.
ALIBABA = {
    "qwen-flash": [(0, "0.05", "0.4", None, "0.063"), (256000, "0.25", "2", None, "0.313")],
    "qwen-plus": [(0, "0.4", "1.2", "4", "0.5"), (256000, "1.2", "3.6", "12", "1.5")],
    "qwen3-coder-30b-a3b-instruct": [(0, "0.45", "2.25", None, None), (32000, "0.75", "3.75", None, None), (128000, "1.2", "6", None, None), (256000, "2.4", "14.4", None, None)],
    "qwen3-coder-480b-a35b-instruct": [(0, "1.5", "7.5", None, None), (32000, "2.7", "13.5", None, None), (128000, "4.5", "22.5", None, None), (256000, "9", "90", None, None)],
    "qwen3-coder-flash": [(0, "0.3", "1.5", None, "0.375"), (32000, "0.5", "2.5", None, "0.625"), (128000, "0.8", "4", None, "1"), (256000, "1.6", "9.6", None, "2")],
    "qwen3-coder-plus": [(0, "1", "5", None, "1.25"), (32000, "1.8", "9", None, "2.25"), (128000, "3", "15", None, "3.75"), (256000, "6", "60", None, "7.5")],
    "qwen3-max": [(0, "1.2", "6", None, "1.5"), (32000, "2.4", "12", None, "3"), (128000, "3", "15", None, "3.75")],
    "qwen3-vl-plus": [(0, "0.2", "1.6", None, "0.25"), (32000, "0.3", "2.4", None, "0.375"), (128000, "0.6", "4.8", None, "0.75")],
    "qwen3.5-plus": [(0, "0.4", "2.4", None, "0.5"), (256000, "0.5", "3", None, "0.625")],
    "qwen3.6-flash": [(0, "0.25", "1.5", None, "0.3125"), (256000, "1", "4", None, "1.25")],
    "qwen3.6-max-preview": [(0, "1.3", "7.8", None, "1.625"), (128000, "2", "12", None, "2.5")],
    "qwen3.6-plus": [(0, "0.5", "3", None, "0.625"), (256000, "2", "6", None, "2.5")],
    "qwen3.7-plus": [(0, "0.4", "1.6", None, "0.5"), (256000, "1.2", "4.8", None, "1.5")],
}
ALIBABA_NOTES = {
    "qwen3.6-flash": "price from md_later: md's was a discount and had no tier",
    "qwen3.7-plus": "price from md_later: md repeated qwen3.6-plus's figures",
}

REQUEST_FEES = {"sonar": "0.005", "sonar-pro": "0.006", "sonar-reasoning-pro": "0.006"}

# DeepSeek has changed its prices since the listing. Each row: since when, and input, output, cache read off the peak, which
# cost twice as much in it. At first every day had one, from the weekend of 2026-08-22 on (Beijing time) Monday to Friday.
PEAK, RAISED, WEEKENDS = [("01:00", "04:00"), ("06:00", "10:00")], "2026-08-16T16:00:00Z", "2026-08-22T16:00:00Z"
DEEPSEEK = {
    "deepseek-v4-flash": [(RAISED, "0.22", "0.66", "0.007"), (WEEKENDS, "0.22", "0.66", "0.007"), ("2026-09-10T04:00:00Z", "0.15", "0.6", "0.003")],
    "deepseek-v4-pro": [(RAISED, "0.66", "1.98", "0.022"), (WEEKENDS, "0.66", "1.98", "0.022")],
}
# Names that ended, and when: what they may cost since is not known.
ENDED = {("deepseek", m): "2026-07-24T15:59:00Z" for m in ("deepseek-chat", "deepseek-reasoner")}

NOTES = {("deepseek", m): "twice as much in peak hours, 01:00 to 04:00 and 06:00 to 10:00 UTC from Monday to Friday" for m in DEEPSEEK}
NOTES |= {key: "a name of deepseek-v4-flash until 2026-07-24; unknown since" for key in ENDED}
NOTES |= {("google", m): "output is priced as image tokens, text output costs less" for m in (
    "gemini-2.5-flash-image", "gemini-3-pro-image-preview", "gemini-3.1-flash-image-preview")}
NOTES |= {("perplexity", m): "plus a fee per request, $5 to $14 per 1,000 by search context; the lowest is counted" for m in REQUEST_FEES}
NOTES[("google", "gemini-2.0-flash")] = "audio input was billed at $0.70, counted here as text"

COST = {"input": "input", "output": "output", "cache_read": "cache_read", "cached_input": "cache_read", "cache_write": "cache_write_5m",
        "reasoning": "reasoning", "input_audio": "audio_in", "output_audio": "audio_out"}


def text(number):
    """A decimal as short text: no exponent, no trailing zeros."""
    out = format(Decimal(number), "f")
    return out.rstrip("0").rstrip(".") if "." in out else out


def rates(cost, drop):
    return {COST[k]: text(v) for k, v in cost.items() if k in COST and k not in drop}


def price_of(key, cost):
    if not cost or key in UNPRICED:
        return None
    provider, model = key
    if provider == "alibaba" and model in ALIBABA:
        def row(input, output, reasoning, write):
            out = {"input": input, "output": output, "cache_read": text(Decimal(input) / 5)}
            if write:
                out["cache_write_5m"] = write
            else:
                del out["cache_read"]  # no cache is sold for it
            if reasoning:
                out |= {"reasoning": reasoning, "output_reasoned": reasoning}
            return out
        (_, *base), *tiers = ALIBABA[model]
        return row(*base) | {"tiers": [{"above": above} | row(*rest) for above, *rest in tiers], "from": ["md_later", "alibaba"]}
    drop = DROP.get(key, (set(), None))[0]
    if unknown := set(cost) - set(COST) - {"tiers"}:
        sys.exit(f"{key}: what is {unknown}?")
    price, sources = rates(cost, drop), ["md"]
    if provider == "alibaba" and "reasoning" in price:
        price["output_reasoned"] = price["reasoning"]
    if provider == "anthropic" and "cache_write_5m" in price:
        price["cache_write_1h"] = text(2 * Decimal(price["input"]))
        sources.append("anthropic")
    if provider == "perplexity":
        price["request"] = REQUEST_FEES[model]
        sources.append("perplexity")
    if tiers := cost.get("tiers"):
        price["tiers"] = [{"above": t["tier"]["size"]} | rates({k: v for k, v in t.items() if k != "tier"}, drop) for t in tiers]
    return price | {"from": sources}


def dated(key, price):
    """The latest price, if it still holds, and those before it."""
    if until := ENDED.get(key):
        return None, [price | {"until": until}]
    rows = DEEPSEEK.get(key[1]) if key[0] == "deepseek" else None
    if not rows:
        return price, None
    days, prices = ["mon", "tue", "wed", "thu", "fri"], [price]
    for since, input, output, read in rows:
        hours = [{"from": start, "until": end, "times": "2"} for start, end in PEAK]
        if since != RAISED:
            hours = [hour | {"days": days} for hour in hours]
        prices[-1]["until"] = since
        prices.append({"input": input, "output": output, "cache_read": read, "hours": hours, "since": since, "from": ["deepseek"]})
    return prices[-1], prices[:-1]


def limit_of(key, limit, embedding):
    limit, sources = {k: v for k, v in limit.items() if v}, ["md"]
    if key in BASE and BASE[key][0]:
        limit, sources = dict(zip(("context", "input", "output"), BASE[key][0])), ["md", "md_base"] if limit else ["md_base"]
    if key == ("openai", "gpt-5-chat-latest"):
        limit, sources = {"context": 128000, "output": 16384}, ["vercel", "md"]
    if embedding:
        limit.pop("output", None)  # the listing has the vector's length there
    if limit.get("output", 0) and limit.get("context", 0) and limit["output"] > limit["context"]:
        limit["input"] = limit.pop("context")  # speech: "context" is what goes in
    limit = {k: limit[k] for k in ("context", "input", "output") if limit.get(k)}
    return limit | {"from": sources} if limit else None


def modalities_of(key, modalities, embedding):
    sources = ["md"]
    if not modalities and key in BASE and BASE[key][1]:
        ins, outs = (side.split(",") for side in BASE[key][1].split(">"))
        modalities, sources = {"input": ins, "output": outs}, ["md_base"]
    if not modalities:
        return None
    out = ["embedding"] if embedding else [m for m in modalities["output"] if m != "pdf"]
    return {"input": modalities["input"], "output": out, "from": sources}


def abilities_of(key, row):
    names = {"reasoning": "reasoning", "tools": "tool_call", "structured_output": "structured_output", "temperature": "temperature"}
    found, sources = {ours: row[theirs] for ours, theirs in names.items() if theirs in row}, ["md"]
    if not found and key in BASE:
        found = {name: flag == "y" for name, flag in zip(names, BASE[key][2]) if flag != "?"}
        sources = ["md_base"]
    if key == ("openai", "gpt-5-chat-latest"):
        found["reasoning"] = False
        del found["tools"]
        sources = ["vercel", "md"]
    if row.get("status") == "deprecated":
        found["deprecated"] = True
    return found | {"from": sources} if found else None


def check(key, line, embedding):
    """Stops at what a listing gets wrong, so that a new oddity is looked at before it is shipped."""
    price, limit = line.get("price") or {}, line.get("limit") or {}
    for tier in [*([price] if price else []), *price.get("tiers", []), *(line.get("earlier") or [])]:
        zero = {k for k, v in tier.items() if v == "0"} - ({"output"} if embedding else set())
        dear = tier.get("cache_read") and Decimal(tier["cache_read"]) > Decimal(tier["input"])
        cheap = tier.get("cache_write_5m") and Decimal(tier["cache_write_5m"]) < Decimal(tier["input"])
        odd = not embedding and Decimal(tier["input"]) > Decimal(tier["output"])
        if zero or dear or cheap or odd:
            sys.exit(f"{key}: odd price {tier}")
    if limit.get("context") and limit.get("output", 0) > limit["context"]:
        sys.exit(f"{key}: odd limit {limit}")


def main():
    def put(value):
        print(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    put({"sources": SOURCES})
    rows = [json.loads(line, parse_float=Decimal) for line in open(sys.argv[1])]
    for row in rows:
        row["provider"] = PROVIDERS.get(row["provider"], row["provider"])
    for row in sorted(rows, key=lambda row: (row["provider"], row["model"])):
        key = provider, model = row["provider"], row["model"]
        embedding = "embed" in model
        notes = [UNPRICED.get(key), DROP.get(key, (None, None))[1], NOTES.get(key), ALIBABA_NOTES.get(model if provider == "alibaba" else "")]
        if key == ("openai", "gpt-5-chat-latest"):
            notes.append("limits and abilities corrected: md repeated gpt-5's; output as in gpt-5.1-chat-latest")
        price, earlier = dated(key, price_of(key, row.get("cost") or {}))
        line = {
            "provider": provider,
            "model": model,
            "limit": limit_of(key, row.get("limit") or {}, embedding),
            "price": price,
            "earlier": earlier,
            "modalities": modalities_of(key, row.get("modalities"), embedding),
            "abilities": abilities_of(key, row),
            "note": "; ".join(filter(None, notes)),
        }
        check(key, line, embedding)
        put({k: v for k, v in line.items() if v})


main()
