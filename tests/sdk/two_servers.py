"""Two real llama-servers behind one model name; one is killed under streaming load and comes back.

No call may fail that had not begun to stream, and the one that came back is used again.
"""

import http.client
import json
import threading
import time

from servers import Pair

CALLERS = 6
KILL_AT, BACK_AT, END_AT = 3.0, 7.0, 16.0  # seconds
BODY = json.dumps({
    "model": "m",
    "stream": True,
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Count to ten."}],
})


def call(port):
    """Who answered, and what became of it: done, broken (after it had begun) or failed (before)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
        response = connection.getresponse()
        provider, text = response.headers.get("x-hoosh-provider"), response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return None, f"failed: {error!r}"
    finally:
        connection.close()
    if response.status != 200:
        return provider, f"failed: {response.status} {text}"
    return provider, "done" if text.endswith("data: [DONE]\n\n") else "broken"


def main():
    settings = 'strategy = "round_robin"\n[routing]\nrest_secs = 1\nheartbeat_secs = 0.5'
    with Pair(settings) as pair:
        start, calls, lock = time.monotonic(), [], threading.Lock()

        def caller():
            while (begun := time.monotonic() - start) < END_AT:
                provider, outcome = call(pair.port)
                with lock:
                    calls.append((begun, provider, outcome))

        threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(KILL_AT)
        pair.kill("a")
        time.sleep(BACK_AT - KILL_AT)
        pair.start_again("a")
        for thread in threads:
            thread.join()
    failed = [one for one in calls if one[2].startswith("failed")]
    broken = [one for one in calls if one[2] == "broken"]
    late = [begun for begun, provider, outcome in calls if provider == "a" and outcome == "done" and begun > BACK_AT]
    print(f"{len(calls)} calls, {len(failed)} failed, {len(broken)} broken in the middle, {len(late)} by the one that came back")
    assert not failed, failed
    assert all(provider == "a" and begun < KILL_AT + 1 for begun, provider, _ in broken), broken
    assert len(calls) > 20 and late, calls


main()
