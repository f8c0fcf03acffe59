#!/usr/bin/env python3
"""The benchmarks of the whole system, each beside its baseline in the same run.

usage: flights.py [--quick] [--runs N] [--build DIR] [NAME...]       NAME: a part of a bench's name; `--list` shows them

Every figure is the median of several runs (five; two with --quick), with their range; a ratio is the median of the ratios
of interleaved pairs, so that what else the machine does meets both. Results: a table, and BUILD/bench.json.
"""
import argparse, contextlib, json, os, random, re, shutil, signal, statistics, subprocess, sys, tempfile, time

QUICK = False
BUILD = "build"
RUNS = 5
FOLDER = None


class Cluster:
    """A ventilator, a sink and workers on free ports of loopback, in a folder on a real disk."""

    def __init__(self, keys=False, counted=""):
        self.folder = tempfile.mkdtemp(prefix="cluster-", dir=FOLDER)
        self.children = []
        self.counted = counted
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("TARMAC_")}
        self.keys = keys

    def begin(self, workers, slots, delays, options):
        if self.keys:
            self.cli("keygen", "keys")
        ready = self.start("ventilator", "serve", *self.key_of("ventilator"), "--data", "v", "--listen", "tcp://127.0.0.1:0",
                           "--workers-listen", "tcp://127.0.0.1:0", "--lanes", "0", "--http", "off", "--shutdown-timeout", "2s")
        self.env["TARMAC_VENTILATOR"] = ready["clients"]
        self.dial = ready["workers"]
        if self.keys:
            self.env["TARMAC_KEYS"] = os.path.join(self.folder, "keys/client")
        self.start("sink", *self.key_of("sink"), "--ventilator", self.dial, "--data", "s", "--results-listen", "tcp://127.0.0.1:0",
                   "--query-listen", "tcp://127.0.0.1:0")
        for i in range(workers):
            self.worker(f"w{i + 1}", slots[i] if isinstance(slots, list) else slots, delays[i] if delays else 0, options)

    def key_of(self, role):
        return ("--keys", f"keys/{role}") if self.keys else ()

    def start(self, name, *args, program=None):
        out = open(os.path.join(self.folder, f"{name}-{len(self.children)}.log"), "a+b")    # both have one place in it, and seek moves it
        counting = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={FOLDER}/callgrind.%p"] if name == self.counted else []
        child = subprocess.Popen([*counting, f"{BUILD}/{program or 'bin/' + name}", *args], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=out)
        self.children.append(child)
        until = time.monotonic() + 60
        while time.monotonic() < until and child.poll() is None:
            out.seek(0)
            for line in out.read().decode().splitlines():
                if line.startswith("ready"):
                    return dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
            time.sleep(0.01)
        out.seek(0)
        raise RuntimeError(f"{name} does not get ready: {out.read().decode()[-500:]}")

    def worker(self, name, slots, delay=0, options=()):
        handlers = os.path.join(self.folder, f"{name}.json")
        with open(handlers, "w") as file:
            json.dump({"bench": {"kind": "plugin", "plugin": f"{BUILD}/tests/bench/plugin_bench.so", "argument": str(delay)}}, file)
        self.start("worker", *self.key_of("worker"), "--ventilator", self.dial, "--name", name, "--slots", str(slots), "--handlers", handlers,
                   "--allow-commands", "--shutdown-timeout", "2s", "--cgroup", "off", *options)
        return self.children[-1]

    def crowd(self, workers, slots=4):
        """So many workers in one process, whose slots are simulated: see bench_crowd.c."""
        self.start("crowd", self.dial, str(workers), str(slots), *(("--keys", "keys/worker") if self.keys else ()), program="tests/bench/bench_crowd")

    def memory(self, child):
        return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{child.pid}/status").read()).group(1))

    def spent(self, child):
        """CPU, in hundredths of a second."""
        return sum(map(int, open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))

    def cli(self, *args, **how):
        got = subprocess.run([f"{BUILD}/bin/ventilator", *args], cwd=self.folder, env=self.env, stdin=how.pop("stdin", subprocess.DEVNULL),
                             stdout=how.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, timeout=300)
        if got.returncode != 0:
            raise RuntimeError(f"{' '.join(args)}: exit code {got.returncode}: {got.stderr.decode()[-500:]}")
        return got.stdout.decode().strip() if got.stdout is not None else ""

    def close(self):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(keys=False, counted="", workers=2, slots=1, delays=None, options=()):
    it = Cluster(keys, counted)
    try:
        it.begin(workers, slots, delays, options)       # inside: who has started is taken away also when another one doesn't
        yield it
    finally:
        it.close()


def timed(call, *args, **how):
    began = time.monotonic()
    result = call(*args, **how)
    return time.monotonic() - began, result


def bare(*args):
    return float(subprocess.run([f"{BUILD}/tests/bench/bench_bare", *map(str, args)], check=True, stdout=subprocess.PIPE).stdout)


def lines_file(n, size=64):
    path = os.path.join(FOLDER, f"lines-{n}-{size}")
    if not os.path.exists(path):
        with open(path, "w") as file:
            for at in range(0, n, 10000):
                file.write("".join(str(i).rjust(size, "x") + "\n" for i in range(at, min(n, at + 10000))))
    return path


def figure(ours, base=None, unit="/s", base_name="", target=None, higher=True, note=""):
    row = {"unit": unit, "median": statistics.median(ours), "least": min(ours), "most": max(ours), "runs": len(ours), "note": note}
    if base:
        ratios = [a / b for a, b in zip(ours, base)]
        row.update(baseline=base_name, baseline_median=statistics.median(base), ratio=statistics.median(ratios))
    row["target"] = target
    return row


def pairs(ours, base):
    """Interleaved, one after the other."""
    got = ([], [])
    for _ in range(RUNS):
        got[1].append(base())
        got[0].append(ours())
    return got


# ---- the benches ----

def bench_noop():
    """no-op plugin tasks, durable, end to end: two workers, 64-byte payloads and results"""
    n = 200_000 if QUICK else 1_000_000
    path = lines_file(n)
    with cluster() as c:
        ours, base = pairs(lambda: n / timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "-a", path)[0],
                           lambda: bare("pipe", 5 * n, 100, 64))
    return {"noop": figure(ours, base, base_name="libzmq pipeline, frames of 100", target="1000000/s")}


def bench_keys():
    """the same with keys (CURVE on every socket), beside a system without"""
    n = 100_000 if QUICK else 500_000
    path = lines_file(n)
    run = lambda c: n / timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "-a", path)[0]
    with cluster(keys=True) as keyed, cluster() as plain:
        ours, base = pairs(lambda: run(keyed), lambda: run(plain))
    return {"keys": figure(ours, base, base_name="without keys")}


def is_there(program):
    """moreutils has a program `parallel` too, which is another."""
    return shutil.which(program) and (program != "parallel" or b"GNU parallel" in subprocess.run(
        [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True).stdout)


def bench_commands():
    """/bin/true as a command, two slots, against a bare posix_spawn loop with two in flight"""
    n = 1000 if QUICK else 4000
    true = ["/bin/true", "{}", "{}"]             # with a single word it reads the locale before it looks whether that is --help
    with cluster(workers=1, slots=2) as c:
        c.cli("submit", "--wait", "--format", "none", "--no-bar", "--range", "1-10", "--", *true)
        def ours():
            return n / timed(c.cli, "submit", "--wait", "--format", "none", "--no-bar", "--timeout", "60s", "--range", f"1-{n}", "--", *true)[0]
        got, base = pairs(ours, lambda: bare("spawn", n, 2))
    rows = {"commands": figure(got, base, base_name="posix_spawn loop, 2 at a time", target="ratio 0.95")}
    rows.update(keepers("capture alone", "off"))
    rows.update(keepers("capture and a cgroup alone", "auto"))
    numbers = "".join(f"{i}\n" for i in range(n)).encode()
    for name, words in (("xargs -P2", ["xargs", "-P2", "-I{}", *true]), ("GNU parallel -j2", ["parallel", "-j2", *true])):
        if is_there(words[0]):
            few = numbers if words[0] == "xargs" else b"".join(numbers.splitlines(True)[:n // 8])
            rates = []
            for _ in range(2 if QUICK else 3):
                took, _ = timed(subprocess.run, words, input=few, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                rates.append(few.count(b"\n") / took)
            rows[f"peer: {name}"] = figure(rates)
    return rows


def keepers(name, cgroup):
    """The keepers without anything around them; the program takes turns with its baseline by itself."""
    said = subprocess.run([f"{BUILD}/tests/bench/bench_keeper", "100" if QUICK else "500", "2", cgroup], stdin=subprocess.DEVNULL, capture_output=True)
    found = re.search(rb"posix_spawn (\d+)/s, keepers (\d+)/s", said.stdout)
    if said.returncode != 0 or not found:
        return {}
    base, ours = map(float, found.groups())
    return {f"commands: {name}": figure([ours], [base], base_name="posix_spawn loop, 2 at a time")}


def bench_latency():
    """one task at a time on an idle system, both disk syncs included"""
    n = "300" if QUICK else "2000"
    with cluster() as c:
        run = lambda *args: [float(word) for word in subprocess.run(args, env=c.env, check=True, stdout=subprocess.PIPE).stdout.split()]
        ours, base = pairs(lambda: run(f"{BUILD}/tests/bench/bench_latency", n), lambda: run(f"{BUILD}/tests/bench/bench_bare", "chain", n, FOLDER))
    of = lambda at: ([times[at] for times in ours], [times[at] for times in base])
    return {"latency p50": figure(*of(0), unit="us", base_name="us of a bare chain with two flushes", target="500 us", higher=False),
            "latency p99": figure(*of(1), unit="us", base_name="us", target="1000 us", higher=False)}


def bench_submission():
    """lines of 64 bytes, acknowledged durable, one CLI process"""
    n = 500_000 if QUICK else 2_000_000
    path = lines_file(n)
    with cluster(workers=0) as c:
        rates = [n / timed(c.cli, "submit", "--handler", "bench", "-a", path)[0] for _ in range(RUNS)]
    return {"submission": figure(rates, target="1000000/s")}


def bench_results():
    """results of a complete batch streamed out: counted, and as text"""
    n = 100_000 if QUICK else 1_000_000
    with cluster() as c:
        batch = c.cli("submit", "--handler", "bench", "-a", lines_file(n)).split()[0]
        c.cli("wait", batch)
        counted = [n / timed(c.cli, "results", batch, "--format", "none")[0] for _ in range(RUNS)]
        text = [n / timed(c.cli, "results", batch, "--format", "text", stdout=subprocess.DEVNULL)[0] for _ in range(RUNS)]
    return {"results, not printed": figure(counted, target="1000000/s"), "results as text": figure(text, target="1000000/s")}


def bench_fairness():
    """workers of different speed or size: makespan over that of bare processes that share one counter (nobody ever waits)"""
    rows = {}
    mixes = {"1 ms and 20 ms": ([1, 1], [1000, 20000], 2000), "8 slots and 1 slot, 4 ms": ([8, 1], [4000, 4000], 4000)}
    for name, (slots, delays, n) in mixes.items():
        n = n // 2 if QUICK else n
        with cluster(slots=slots, delays=delays) as c:
            c.cli("submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "--range", "1-20")
            naps = [us for count, us in zip(slots, delays) for _ in range(count)]
            got, base = pairs(
                lambda: timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "--range", f"1-{n}")[0],
                lambda: n / bare("share", n, *naps))
        rows[f"makespan, {name}"] = makespan(got, base)
    rows.update(heavy_tail())
    rows["makespan, a worker joins half way"] = changing_crew(joins=True)
    rows["makespan, a worker leaves half way"] = changing_crew(joins=False)
    return rows


def makespan(got, base, base_name="bare processes, one counter"):
    return figure(got, base, unit="s", base_name=base_name, target="ratio 1.05", higher=False)


def heavy_tail():
    """Each task takes its own time, drawn from Pareto's distribution: most are short, a few are as long as hundreds of them."""
    n = 1000 if QUICK else 3000
    draw = random.Random(6)
    path = os.path.join(FOLDER, "pareto")
    with open(path, "w") as file:
        for _ in range(n):
            file.write(f"{min(500_000, round(1000 * draw.paretovariate(1.5)))} us\n")
    rows = {}
    for name, slots in (("two slots", [1, 1]), ("8 slots and 1 slot", [8, 1])):
        with cluster(slots=slots, delays=["payload", "payload"]) as c:
            run = lambda: timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "-a", path)[0]
            run()
            got, base = pairs(run, lambda: n / bare("deal", path, sum(slots)))
        rows[f"makespan, Pareto 1.5, {name}"] = makespan(got, base)
    return rows


def changing_crew(joins):
    """Two slots of 4 ms for half of the time, one for the other half. The bound: what bare processes do in a second, all the time."""
    n, got, base = 600 if QUICK else 1200, [], []
    for _ in range(2 if QUICK else 3):
        rate = bare("share", n // 4, 4000)
        with cluster(workers=1 if joins else 2, delays=[4000, 4000]) as c:
            c.cli("submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "--range", "1-20")
            began = time.monotonic()
            client = subprocess.Popen([f"{BUILD}/bin/ventilator", "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar",
                                       "--range", f"1-{n}"], cwd=c.folder, env=c.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            time.sleep(n / rate / (2 if joins else 4))
            if joins:
                c.worker("late", 1, 4000)
            else:
                c.children[-1].send_signal(signal.SIGTERM)
            changed = time.monotonic() - began
            if client.wait(120) != 0:
                raise RuntimeError("submit fails while the crew changes")
            got.append(time.monotonic() - began)
            base.append((n / rate + changed) / 2 if joins else n / rate - changed)
    return makespan(got, base, "by the rate of a bare process")


def bench_shares():
    """a batch of ten tasks behind one of 10,000,000, beside the same alone; and the shares of weights 1, 1 and 3"""
    alone, behind = [], []
    with cluster(delays=[1000, 1000]) as c:
        ten = lambda: timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "--range", "1-10")[0]
        ten()
        for _ in range(3 * RUNS):
            alone.append(1000 * ten())
        long = [c.cli("submit", "--handler", "bench", "--range", "1-10000000").split()[0]]
        for _ in range(3 * RUNS):
            behind.append(1000 * ten())
        long += [c.cli("submit", "--handler", "bench", "--weight", weight, "--range", "1-10000000").split()[0] for weight in ("1", "3")]
        done = lambda: [json.loads(c.cli("status", batch, "--json"))["ok"] for batch in long]
        before = done()
        time.sleep(2 if QUICK else 10)
        rates = [b - a for a, b in zip(before, done())]
        got = [abs(rate / sum(rates) * 5 / weight - 1) for rate, weight in zip(rates, (1, 1, 3))]
        for batch in long:
            c.cli("cancel", batch)
        kb = c.memory(c.children[0])
    return {"ten behind 10,000,000": figure(behind, alone, unit="ms", base_name="ms alone", target="100 ms", higher=False),
            "shares: off by at most": figure([100 * max(got)], unit="%", target="5 %", higher=False),
            "memory of the ventilator, 10,000,000 behind": figure([kb / 1024], unit="MiB", higher=False)}


def bench_scale():
    """1,000 workers of four slots beside four of them, in one process with simulated slots: until all are ready, throughput, cost"""
    many, n = (200, 500_000) if QUICK else (1000, 1_000_000)
    got, base, ready, per_worker, per_worker_sink, idle, idle_sink = ([] for _ in range(7))
    go = lambda c: n / timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "-a", lines_file(n))[0]
    for _ in range(1 if QUICK else RUNS):
        for count, rates in ((4, base), (many, got)):
            with cluster(workers=0) as c:
                served = c.children[:2]
                before = [c.memory(child) for child in served]
                ready.append(timed(c.crowd, count)[0])
                if count == many:
                    cost = [(c.memory(child) - kb) / many for child, kb in zip(served, before)]
                    per_worker.append(cost[0])
                    per_worker_sink.append(cost[1])
                    time.sleep(0.5)                         # until the last ones have found the sink
                    before = [c.spent(child) for child in served]
                    time.sleep(2 if QUICK else 4)
                    cost = [(c.spent(child) - spent) / (2 if QUICK else 4) for child, spent in zip(served, before)]
                    idle.append(cost[0])
                    idle_sink.append(cost[1])
                go(c)
                rates += [go(c), go(c)]
    return {f"no-op tasks, {many} workers x 4": figure(got, base, base_name="/s with 4 workers", target="ratio 0.8"),
            f"until {many} workers are ready": figure(ready[1::2], unit="s", target="5 s", higher=False),
            f"ventilator idle with {many}": figure(idle, unit="% of a core", target="2 %", higher=False),
            f"sink idle with {many}": figure(idle_sink, unit="% of a core", higher=False),
            "memory of the ventilator for a worker": figure(per_worker, unit="KiB", target="64 KiB", higher=False),
            "memory of the sink for a worker": figure(per_worker_sink, unit="KiB", higher=False)}


def bench_backlog():
    """10,000,000 queued tasks of 16 bytes: the rate at which the first of them end beside that of the last ones, and memory"""
    n = 4_000_000 if QUICK else 10_000_000
    first, last, memory = [], [], ([], [])
    for _ in range(1 if QUICK else min(RUNS, 2)):
        with cluster(workers=0) as c:
            batch = c.cli("submit", "--handler", "bench", "-a", lines_file(n, 16)).split()[0]
            for child, kb in zip(c.children, memory):
                kb.append(c.memory(child) / 1024)
            c.crowd(4)
            samples, until = [], time.monotonic() + 60
            while time.monotonic() < until and (not samples or samples[-1][1] < n):
                samples.append((time.monotonic(), json.loads(c.cli("status", batch, "--json"))["ok"]))
                time.sleep(0.005)
            first.append(rate_between(samples, n // 50, n // 5))
            last.append(rate_between(samples, n - n // 5, n - 10_000))
    return {f"{n:,} queued, tasks/s of the first": figure(first, last, base_name="/s, of the last fifth", target="ratio 1"),
            "memory of the ventilator, 10,000,000 queued": figure(memory[0], unit="MiB", higher=False),
            "memory of the sink, 10,000,000 queued": figure(memory[1], unit="MiB", higher=False)}


def rate_between(samples, low, high):
    """Tasks a second from when `low` had ended to when `high` had, as near as the samples tell."""
    inside = [sample for sample in samples if low <= sample[1] <= high]
    if len(inside) < 2:
        raise RuntimeError(f"no two samples between {low} and {high} tasks")
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def bench_cancel():
    """cancel of a batch that is queued and running, until it is acknowledged"""
    took = []
    with cluster(slots=2) as c:
        for _ in range(10 if QUICK else 40):
            batch = c.cli("submit", "--range", "1-1000", "--", "sleep", "60").split()[0]
            until = time.monotonic() + 30
            while json.loads(c.cli("status", batch, "--json"))["running"] < 4 and time.monotonic() < until:
                time.sleep(0.005)
            took.append(1000 * timed(c.cli, "cancel", batch)[0])
    took.sort()
    return {"cancel p50": figure([statistics.median(took)], unit="ms", higher=False),
            "cancel p99": figure([took[-1]], unit="ms", higher=False, note="with the start of the client process")}


def bench_large():
    """payloads of 1 MiB there and back, against libzmq alone, and against the disk: each payload and result written once"""
    n = 50 if QUICK else 200
    folder = os.path.join(FOLDER, "large")
    os.makedirs(folder, exist_ok=True)
    names = []
    for i in range(n):
        names.append(os.path.join(folder, str(i)))
        with open(names[-1], "wb") as file:
            file.write(os.urandom(1 << 20))
    def rate(c, *tasks):
        return n / timed(c.cli, "submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "--max-output", "2M", *tasks)[0]
    disk = lambda: bare("disk", 2 * n, 4, os.path.join(FOLDER, "disk"))
    with cluster() as c:
        rate(c, "--files", *names)
        got, base = pairs(lambda: rate(c, "--files", *names), lambda: bare("pipe", 5 * n, 1, 1 << 20))
        again, written = pairs(lambda: rate(c, "--files", *names), lambda: disk() / 2)
    rows = {"1 MiB payloads": figure(got, base, unit="MiB/s", base_name="libzmq pipeline, 1 MiB a frame", target="ratio 0.8"),
            "1 MiB payloads, beside the disk": figure(again, written, unit="MiB/s", base_name="2 MiB written, a flush for each 4")}
    for name, plugin, tasks in (("1 MiB payloads, no results", "swallow", ["--files", *names]), ("no payloads, 1 MiB results", "give", ["--range", f"1-{n}"])):
        with cluster(delays=[plugin] * 2) as c:
            rate(c, *tasks)
            got, written = pairs(lambda: rate(c, *tasks), disk)
        rows[name] = figure(got, written, unit="MiB/s", base_name="1 MiB written, a flush for each 4")
    shutil.rmtree(folder)
    return rows


def bench_instructions():
    """instructions a no-op task in each process (callgrind; the worker's without its slots, which are processes): other load does not change them"""
    rows = {}
    if not shutil.which("valgrind"):
        return rows
    few, many = 20_000, 120_000 if QUICK else 220_000
    for name, what in (("ventilator", "ventilator"), ("sink", "sink"), ("crowd", "worker")):
        counted = []
        for n in (few, many):
            with cluster(counted=name, workers=0 if name == "crowd" else 2) as c:
                if name == "crowd":      # a keeper is this program started anew, which valgrind does not take
                    c.crowd(1)
                c.cli("submit", "--handler", "bench", "--wait", "--format", "none", "--no-bar", "-a", lines_file(n))
            sums = [re.search(r"^(?:summary|totals): (\d+)", open(os.path.join(FOLDER, file)).read(), re.M)
                    for file in os.listdir(FOLDER) if file.startswith("callgrind.")]
            counted.append(sum(int(found.group(1)) for found in sums if found))
            for file in os.listdir(FOLDER):
                if file.startswith("callgrind."):
                    os.unlink(os.path.join(FOLDER, file))
        rows[f"instructions a task, {what}"] = figure([(counted[1] - counted[0]) / (many - few)], unit="instructions", higher=False)
    return rows


def bench_peers():
    """peers, where their Debian packages are installed (make bench-setup)"""
    rows = {}
    if shutil.which("redis-server"):
        rows.update(redis_streams())
    if shutil.which("beanstalkd"):
        rows.update(beanstalkd())
    return rows


def flood(label, server, message, at_once, lines, n):
    """A server on a socket of its own gets `message` n times, `at_once` before its answers of so many `lines` each are read."""
    import socket
    folder = tempfile.mkdtemp(dir=FOLDER)
    sock = os.path.join(folder, "s")
    process = subprocess.Popen(server(folder, sock), stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not os.path.exists(sock) and time.monotonic() < until:
            time.sleep(0.02)
        got = []
        for _ in range(2 if QUICK else 3):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(sock)
                began = time.monotonic()
                for _ in range(0, n, at_once):
                    s.sendall(message * at_once)
                    answers = 0
                    while answers < at_once * lines:
                        answers += s.recv(65536).count(b"\n")
                got.append(n / (time.monotonic() - began))
        return {label: figure(got)}
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def redis_streams():
    return flood("peer: Redis streams, fsync always (XADD only, 500 at once)",
                 lambda folder, sock: ["redis-server", "--port", "0", "--unixsocket", sock, "--appendonly", "yes", "--appendfsync", "always",
                                       "--dir", folder, "--save", ""],
                 b"*5\r\n$4\r\nXADD\r\n$1\r\nq\r\n$1\r\n*\r\n$1\r\np\r\n$64\r\n" + b"x" * 64 + b"\r\n",
                 at_once=500, lines=2, n=5000 if QUICK else 100_000)


def beanstalkd():
    return flood("peer: beanstalkd, fsync always (put only, 200 at once)",
                 lambda folder, sock: ["beanstalkd", "-l", f"unix:{sock}", "-b", folder, "-f", "0"],
                 b"put 1 0 60 64\r\n" + b"x" * 64 + b"\r\n", at_once=200, lines=1, n=5000 if QUICK else 50_000)


BENCHES = {name[6:]: call for name, call in list(globals().items()) if name.startswith("bench_")}    # in the order above
BY_NAME = ("instructions",)                  # it takes long: only when it is asked for


# ---- telling ----

def human(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows):
    lines = [("bench", "median", "range", "baseline", "ratio", "target")]
    for name, row in rows.items():
        if "failed" in row:
            lines.append((name, "failed", row["failed"], "", "", ""))
            continue
        unit = row["unit"] if row["unit"].startswith("/") else " " + row["unit"]
        base = f"{human(row['baseline_median'])} {row['baseline']}" if "baseline" in row else ""
        lines.append((name, human(row["median"]) + unit, f"{human(row['least'])} to {human(row['most'])}", base,
                      f"{row['ratio']:.3f}" if "ratio" in row else "", row["target"] or ""))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def main():
    global QUICK, BUILD, RUNS, FOLDER
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--build", default=os.environ.get("B", "build"))
    parser.add_argument("name", nargs="*")
    args = parser.parse_args()
    if args.list:
        for name, call in BENCHES.items():
            print(f"{name:12} {call.__doc__}")
        return 0
    QUICK, BUILD = args.quick, os.path.abspath(args.build)
    RUNS = args.runs or (2 if QUICK else 5)
    FOLDER = tempfile.mkdtemp(prefix="bench-", dir=BUILD)
    rows, wrong = {}, 0
    try:
        for name, call in BENCHES.items():
            if not any(part in name for part in args.name) if args.name else name in BY_NAME:
                continue
            print(f"# {name}: {call.__doc__}", file=sys.stderr, flush=True)
            try:
                rows.update(call())
            except (RuntimeError, subprocess.SubprocessError, OSError) as error:
                rows[name] = {"failed": str(error)}
                wrong = 1
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    if not rows:
        print("bench: no bench has such a name; --list shows them", file=sys.stderr)
        return 1
    with open(os.path.join(BUILD, "bench.json"), "w") as file:
        json.dump({"cores": os.cpu_count(), "load": os.getloadavg()[0], "quick": QUICK, "figures": rows}, file, indent=1)
        file.write("\n")
    print(table(rows))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
