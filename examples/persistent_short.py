#!/usr/bin/env python3
"""The shortest persistent handler: one task after the other, no cancel (after the grace it is killed and started again)."""
import json
import struct
import sys

stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
while head := stdin.read(4):
    task = json.loads(stdin.read(struct.unpack(">I", head)[0]))
    if task["type"] != "task":
        continue
    result = {"type": "result", "id": task["id"], "ok": True, "output": task["payload"].upper() + "\n"}
    data = json.dumps(result).encode()
    stdout.write(struct.pack(">I", len(data)) + data)
    stdout.flush()
