#!/usr/bin/env python3
"""Holds the house against its plan (docs/architecture.md): which crate may know which, and where copyleft may be.

    python3 tests/layers.py        exits 1 and says so for each arrow that does not go down, each crate of the middle
                                   floor that knows a neighbour, and each copyleft crate reached from where none may be
"""

import json
import subprocess
import sys

FLOOR = {
    "hoosh-core": 0,
    "hoosh-providers": 1, "hoosh-router": 1, "hoosh-budget": 1, "hoosh-audit": 1, "hoosh-tools": 1, "hoosh-client": 1,
    "hoosh-gateway": 2,
    "hoosh-server": 3,
    "hoosh": 4,
}
# Whose graph, with default features, must hold no copyleft crate. hoosh-tools and the binary may.
PERMISSIVE = ["hoosh-core", "hoosh-providers", "hoosh-router", "hoosh-budget", "hoosh-audit", "hoosh-client", "hoosh-gateway"]
# Crates that need no tokio: values in, values out. The router's loop waits between two tries, by tokio's clock.
NO_RUNTIME = ["hoosh-core"]


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tree(crate):
    """The crates that `crate` reaches by normal edges, each as (name, licence)."""
    command = ["cargo", "tree", "--locked", "-p", crate, "-e", "normal", "--prefix", "none", "--format", "{p}|{l}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted({tuple(line.replace(" (*)", "").split("|")[:2]) for line in out.splitlines() if "|" in line})


def copyleft(licence):
    """Whether no choice of `licence` is permissive."""
    choices = licence.replace("(", "").replace(")", "").split(" OR ")
    return all("GPL" in choice for choice in choices) and "LGPL" not in licence


def main():
    faults = []
    packages = {package["name"]: package for package in metadata()["packages"] if package["name"] in FLOOR}
    for name, package in packages.items():
        for dependency in package["dependencies"]:
            if dependency["kind"] is None and dependency["name"] in FLOOR:
                if FLOOR[dependency["name"]] >= FLOOR[name]:
                    faults.append(f"arrow against the house: {name} -> {dependency['name']}")
    checked = 0
    for crate in PERMISSIVE:
        if crate not in packages:
            continue
        reached = tree(crate)
        checked += len(reached)
        faults += [f"{crate} reaches {name} ({licence})" for name, licence in reached if copyleft(licence)]
        if crate in NO_RUNTIME:
            faults += [f"{crate} reaches {name}" for name, _ in reached if name.startswith("tokio ")]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not packages or checked < 20:
        print("nothing was checked", file=sys.stderr)
        return 1
    print(f"layers: {len(packages)} crates, {checked} reached, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
