#!/usr/bin/env python3
"""Verifies an audit log of hoosh without hoosh.

    python3 examples/verify_audit.py FOLDER KEY_FILE

Needs the package `cryptography`. Exits with 1 and names the first record that is wrong.
"""

import hashlib, hmac, json, pathlib, sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def read_keys(path):
    """The keys by their names: the chain's secret and the public half of the signature's."""
    keys = {}
    for line in pathlib.Path(path).read_text().split():
        if not line.startswith("hoosh_audit_"):
            continue
        secret = bytes.fromhex(line.removeprefix("hoosh_audit_"))
        public = Ed25519PrivateKey.from_private_bytes(secret[32:]).public_key().public_bytes_raw()
        name = hmac.digest(secret[:32], b"hoosh audit key" + public, "sha256")[:8].hex()
        keys[name] = secret[:32], Ed25519PublicKey.from_public_bytes(public)
    return keys


def root(leaves):
    """The Merkle tree hash of RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


def canonical(value):
    """RFC 8785 for what records hold: texts, whole numbers, names of plain letters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_checkpoint(point, keys, head, seq, leaves):
    statement = {name: value for name, value in point.items() if name != "signature"}
    signed = b"hoosh audit checkpoint\n" + canonical(statement)
    keys[point["key"]][1].verify(bytes.fromhex(point["signature"]), signed)
    assert (point["seq"], point["head"], point["root"]) == (seq, head.hex(), root(leaves).hex()), "it is of other records"


def main(folder, key_file):
    keys, key, head, seq, leaves = read_keys(key_file), None, bytes(32), 0, []
    folder = pathlib.Path(folder)
    kept = [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]
    for path in sorted(folder.glob("audit-*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                entry = json.loads(line)
                record = entry["record"]
                assert canonical(entry) == line, "it is not in the form of RFC 8785"
                assert record["seq"] == seq + 1, f"record {record['seq']} stands where {seq + 1} belongs"
                if seq == 0:
                    key = keys[record["body"]["key"]][0]
                mac = hmac.digest(key, head + canonical(record), "sha256")
                assert hmac.compare_digest(mac.hex(), entry["mac"]), f"record {seq + 1} is not what was written"
                if record["kind"] == "checkpoint":
                    check_checkpoint(record["body"], keys, head, seq, leaves)
                    leaves = []
                if record["kind"] == "rotation":
                    key = keys[record["body"]["new_key"]][0]
                head, seq = mac, record["seq"]
                leaves.append(hashlib.sha256(b"\0" + line).digest())
            except (AssertionError, InvalidSignature, KeyError, ValueError) as error:
                sys.exit(f"{path}:{number}: {error!r}")
    last = max((point["seq"] for point in kept), default=0)
    if last > seq:
        sys.exit(f"{folder}: cut off: the last record is {seq}, and a checkpoint is of record {last}")
    print(f"{seq} records, {len(kept)} checkpoints, head {head.hex()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
