"""Two real llama-servers behind one model name; one is killed under streaming load and comes back.

No call may fail that had not begun to stream, and the one that came back is used again. tests/sdk/run.sh runs it with
HOOSH_BIN and what examples/llama/install.sh prints in the environment.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

CALLERS = 6
KILL_AT, BACK_AT, END_AT = 3.0, 7.0, 16.0  # seconds
BODY = json.dumps({
    "model": "m",
    "stream": True,
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Count to ten."}],
})


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [one.getsockname()[1] for one in held]


def llama(port):
    arguments = ["-m", os.environ["LLAMA_CHAT_MODEL"], "--alias", "m", "--port", str(port), "-t", "1", "-np", "4"]
    return subprocess.Popen(
        [os.environ["LLAMA_PYTHON"], os.environ["LLAMA_SERVER"], *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(port, path, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"nobody answers {path} at port {port}")


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
    port_a, port_b, port = free_ports(3)
    servers = {"a": llama(port_a), "b": llama(port_b)}
    config = tempfile.NamedTemporaryFile("w", suffix=".toml")
    config.write(f"""
[server]
port = {port}
strategy = "round_robin"
[routing]
rest_secs = 1
heartbeat_secs = 0.5
[[providers]]
type = "llamacpp"
name = "a"
base_url = "http://127.0.0.1:{port_a}"
models = ["m"]
[[providers]]
type = "llamacpp"
name = "b"
base_url = "http://127.0.0.1:{port_b}"
models = ["m"]
""")
    config.flush()
    gateway = None
    try:
        wait_for(port_a, "/health")
        wait_for(port_b, "/health")
        gateway = subprocess.Popen([os.environ["HOOSH_BIN"], "serve", "--config", config.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port, "/v1/health")
        start, calls, lock = time.monotonic(), [], threading.Lock()

        def caller():
            while (begun := time.monotonic() - start) < END_AT:
                provider, outcome = call(port)
                with lock:
                    calls.append((begun, provider, outcome))

        threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(KILL_AT)
        servers["a"].send_signal(signal.SIGKILL)
        servers["a"].wait()
        time.sleep(BACK_AT - KILL_AT)
        servers["a"] = llama(port_a)
        for thread in threads:
            thread.join()
    finally:
        for process in [*servers.values(), *([gateway] if gateway else [])]:
            process.kill()
            process.wait()
    failed = [one for one in calls if one[2].startswith("failed")]
    broken = [one for one in calls if one[2] == "broken"]
    late = [begun for begun, provider, outcome in calls if provider == "a" and outcome == "done" and begun > BACK_AT]
    print(f"{len(calls)} calls, {len(failed)} failed, {len(broken)} broken in the middle, {len(late)} by the one that came back")
    assert not failed, failed
    assert all(provider == "a" and begun < KILL_AT + 1 for begun, provider, _ in broken), broken
    assert len(calls) > 20 and late, calls


main()
