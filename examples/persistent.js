#!/usr/bin/env node
// A persistent handler of Tarmac in Node: it answers each task with its payload backwards, and gives a slow one up when it is
// cancelled.   {"backwards": {"kind": "persistent", "command": ["node", "examples/persistent.js"]}}
'use strict';
let input = Buffer.alloc(0);
let running = null;

function write(message) {
  const data = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(4);
  head.writeUInt32BE(data.length);
  process.stdout.write(Buffer.concat([head, data]));
}

function finish(result) {
  clearTimeout(running.timer);
  write({type: 'result', id: running.task.id, ...result});
  running = null;
}

function receive(message) {
  if (message.type === 'cancel' && running) finish({ok: false, error: 'cancelled'});
  if (message.type !== 'task') return;
  const output = [...message.payload].reverse().join('') + '\n';
  running = {task: message, timer: setTimeout(() => finish({ok: true, output}), Number(message.values.delay_ms || 0))};
}

process.stdin.on('data', (chunk) => {
  input = Buffer.concat([input, chunk]);
  while (input.length >= 4 && input.length >= 4 + input.readUInt32BE(0)) {
    const end = 4 + input.readUInt32BE(0);
    receive(JSON.parse(input.subarray(4, end)));
    input = input.subarray(end);
  }
});
