#!/usr/bin/env python3
"""A persistent handler of Tarmac, with nothing but the standard library: it sleeps as many seconds as a task's payload says,
unless the task is cancelled meanwhile.

    {"nap": {"kind": "persistent", "command": ["python3", "examples/persistent.py"]}}
"""
import json
import queue
import struct
import sys
import threading


def read():
    """The next message, or None at the end of the input."""
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        return None
    return json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))


def write(message):
    data = json.dumps(message).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
    sys.stdout.buffer.flush()


tasks, cancelled = queue.Queue(), threading.Event()


def listen():
    while message := read():
        if message["type"] == "task":
            cancelled.clear()
            tasks.put(message)
        elif message["type"] == "cancel":
            cancelled.set()
    tasks.put(None)


threading.Thread(target=listen, daemon=True).start()
while task := tasks.get():
    result = {"type": "result", "id": task["id"], "ok": True}
    try:
        print("task", task["key"], file=sys.stderr, flush=True)    # kept with the task
        if cancelled.wait(float(task["payload"])):
            result.update(ok=False, error="cancelled while it slept")
        else:
            result["output"] = "slept %s s for %s\n" % (task["payload"], task["values"].get("user", "nobody"))
    except ValueError as error:
        result.update(ok=False, error=str(error), code=64)
    write(result)
