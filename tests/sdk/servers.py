"""Real llama-servers and a real hoosh, for the scripts beside this file that start and kill them.

Their environment has HOOSH_BIN and what examples/llama/install.sh prints; tests/sdk/run.sh sees to that.
"""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [one.getsockname()[1] for one in held]


def llama(port, model, *arguments):
    common = ["-m", os.environ[model], "--port", str(port), "-t", "1"]
    return silent(os.environ["LLAMA_PYTHON"], os.environ["LLAMA_SERVER"], *common, *arguments)


def hoosh(config):
    """What it complains of is shown: a configuration that it does not take, for one."""
    environment = {**os.environ, "HOOSH_LOG": os.environ.get("HOOSH_LOG", "error")}
    return subprocess.Popen([os.environ["HOOSH_BIN"], "serve", "--config", config], stdout=subprocess.DEVNULL, env=environment)


def silent(*command):
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(*processes):
    for process in processes:
        process.kill()
        process.wait()


def wait_for(port, path, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"nobody answers {path} at port {port}")


class Pair:
    """Two servers called `a` and `b`, and a gateway before them; all of them end with it."""

    def __init__(self, settings, of_each=""):
        self.ports = dict(zip("ab", free_ports(2)))
        [self.port] = free_ports(1)
        self.servers = {name: self._llama(port) for name, port in self.ports.items()}
        self.config = tempfile.NamedTemporaryFile("w", suffix=".toml")
        self.config.write(f"[server]\nport = {self.port}\n{settings}\n")
        for name, port in self.ports.items():
            self.config.write(
                f'[[providers]]\ntype = "llamacpp"\nname = "{name}"\nbase_url = "http://127.0.0.1:{port}"\n'
                f'models = ["m"]\n{of_each}\n'
            )
        self.config.flush()
        self.gateway = None

    @staticmethod
    def _llama(port):
        return llama(port, "LLAMA_CHAT_MODEL", "--alias", "m", "-np", "4")

    def __enter__(self):
        for port in self.ports.values():
            wait_for(port, "/health")
        self.gateway = hoosh(self.config.name)
        wait_for(self.port, "/v1/health")
        return self

    def __exit__(self, *_):
        end(*self.servers.values(), *([self.gateway] if self.gateway else []))

    def kill(self, name):
        end(self.servers[name])

    def start_again(self, name):
        self.servers[name] = self._llama(self.ports[name])
