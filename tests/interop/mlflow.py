"""Runs tracked on a real MLflow server (loopback): what appears there, kills half-way, a server that dies.

    python3 tests/interop/mlflow.py [SQZ [WORKDIR]]

Uses the interpreter in $SQZ_MLFLOW_PYTHON when set, else makes a virtual environment under build/.  Not part of `make check`.
"""
import http.client
import http.server
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != HERE]  # this file is not the mlflow package

try:
    from mlflow.tracking import MlflowClient
except ImportError:
    python = os.environ.get("SQZ_MLFLOW_PYTHON")
    venv = os.path.join(ROOT, "build/venv-mlflow")
    if not python:
        python = os.path.join(venv, "bin/python")
        if not os.path.exists(os.path.join(venv, ".ready")):
            print(f"mlflow: making {venv}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "mlflow"], check=True)
            open(os.path.join(venv, ".ready"), "w").close()
    if os.environ.get("SQZ_MLFLOW_AGAIN"):
        sys.exit(f"{python}: has no mlflow")
    os.execve(python, [python, os.path.abspath(__file__), *sys.argv[1:]], dict(os.environ, SQZ_MLFLOW_AGAIN="1"))

sys.path.append(os.path.join(ROOT, "tests/e2e"))
import common

KEPT = ["report.html", "report.md", "metrics.json", "pareto.json", "run.json", "environment.json", "quantization_summary.json",
        "trials.jsonl", "journal.jsonl"]


class Server:
    """`mlflow server` that can be killed and started again on the same port and data."""

    def __init__(self, folder):
        self.folder = common.fresh(folder)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        args = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination", f"{self.folder}/artifacts",
                "--serve-artifacts"]
        log = open(os.path.join(self.folder, "server.log"), "ab")
        self.process = subprocess.Popen(args, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        for _ in range(600):
            try:
                with urllib.request.urlopen(self.uri + "/health", timeout=1) as answer:
                    if answer.read() == b"OK":
                        return
            except OSError:
                pass
            assert self.process.poll() is None, f"the server ended; see {self.folder}/server.log"
            time.sleep(0.2)
        sys.exit("the server does not answer")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Between(http.server.ThreadingHTTPServer):
    """Passes requests on to the server; while `rounds` has something, every fifth one meets the next of its faults:
    an event takes up to eight requests and is begun anew after a failure."""
    daemon_threads = True

    def __init__(self, server):
        super().__init__(("127.0.0.1", 0), Passing)
        self.server, self.lock, self.n, self.met = server, threading.Lock(), 0, {}
        self.rounds = itertools.cycle(["busy", "broken", "garbage", "cut", "cut after", "slow"])
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next_fault(self):
        with self.lock:
            self.n += 1
            fault = next(self.rounds) if self.rounds and self.n % 5 == 0 else None
            if fault:
                self.met[fault] = self.met.get(fault, 0) + 1
            return fault

    def handle_error(self, request, client_address):
        pass  # the tracker has gone away, as it may


class Passing(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault()
        if fault == "slow":
            time.sleep(1.5)
        if fault == "busy":
            return self.answer(429, b"{}", [("Retry-After", "1")])
        if fault == "broken":
            return self.answer(500, b'{"error_code": "INTERNAL_ERROR"}')
        if fault == "garbage":
            return self.answer(200, b"<html><b>welcome</b></html>")
        if fault == "cut":
            return self.close_connection_now()
        inner = http.client.HTTPConnection("127.0.0.1", self.server.server.port, timeout=60)
        inner.request(self.command, self.path, body, {"Content-Type": self.headers.get("Content-Type", "application/json")})
        got = inner.getresponse()
        data = got.read()
        if fault == "cut after":
            return self.close_connection_now()
        return self.answer(got.status, data, [("Content-Type", got.getheader("Content-Type", "application/json"))])

    def close_connection_now(self):
        self.close_connection = True
        self.connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = pass_on

    def log_message(self, *unused):
        pass


def trials_of(run):
    with open(os.path.join(run, "trials.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def check_study(client, run, status):
    """Everything of the run folder is on the server, once."""
    study = common.load(run, "run.json")["id"]
    found = []
    for experiment in client.search_experiments():
        found += client.search_runs([experiment.experiment_id], f"tags.`sqz.key` LIKE '{study}/%'", max_results=5000)
    keys = [r.data.tags["sqz.key"].split("/")[1] for r in found]
    trials = trials_of(run)
    told = ["study"] + [t["strategy_id"] for t in trials]
    assert len(set(keys)) == len(keys) and set(told) <= set(keys), (keys, told)
    assert len(keys) - len(told) <= (status == "KILLED"), (keys, told)  # the journal may be a trial before trials.jsonl
    runs = dict(zip(keys, found))
    parent = runs["study"]
    assert parent.info.status == status, parent.info.status
    front = {m["strategy_id"] for m in common.load(run, "pareto.json")["members"]}
    for t in trials:
        r = runs[t["strategy_id"]]
        assert r.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert r.info.status == ("FINISHED" if t["outcome"] == "ok" else "KILLED" if t["outcome"] == "killed" else "FAILED")
        assert r.data.tags["sqz.status"] == t["outcome"]
        if t["strategy_id"] != "dense":
            if status != "KILLED":  # pareto.json may be one trial behind trials.jsonl
                assert (r.data.tags.get("sqz.pareto") == "true") == (t["strategy_id"] in front), (t["strategy_id"], r.data.tags)
            assert r.data.params["bits"] == str(t["steps"][0]["with"]["bits"])
        if "quality" in t.get("metrics", {}):
            assert r.data.metrics["quality"] == t["metrics"]["quality"]
        for key in r.data.metrics:
            points = [(m.step, m.timestamp) for m in client.get_metric_history(r.info.run_id, key)]
            assert len({p[0] for p in points}) == len(points), f"{t['strategy_id']} {key}: {points}"
    steps = [m.step for m in client.get_metric_history(parent.info.run_id, "hypervolume")]
    assert len(set(steps)) == len(steps), steps
    return parent, runs, front


def check_artifacts(client, parent, run, work):
    for name in KEPT:
        local = client.download_artifacts(parent.info.run_id, name, common.fresh(os.path.join(work, "download")))
        with open(local, "rb") as a, open(os.path.join(run, name), "rb") as b:
            assert a.read() == b.read(), name


def check_model(client, parent, runs):
    best = parent.data.tags["sqz.recommended"]
    versions = [v for m in client.search_registered_models() for v in client.search_model_versions(f"name='{m.name}'")
                if v.run_id == runs[best].info.run_id]
    assert len(versions) == 1, versions
    names = {a.path for a in client.list_artifacts(versions[0].run_id, "model")}
    assert {"model/config.json", "model/model.safetensors"} <= names, names


def wait_for_trials(p, run, n):
    path = os.path.join(run, "trials.jsonl")
    while p.poll() is None:
        if os.path.exists(path) and sum(1 for _ in open(path, encoding="utf-8")) > n:
            return
        time.sleep(0.02)


def main(sqz, work):
    work = common.fresh(work)
    server = Server(os.path.join(work, "server"))
    client = MlflowClient(server.uri)
    store = os.path.join(work, "store")
    config = common.pipeline(work, tracker=[{"use": "mlflow", "with": {"uri": server.uri}}, "jsonl"])
    try:
        # 1. an undisturbed run
        run, out = os.path.join(work, "whole"), os.path.join(work, "whole.json")
        common.run(sqz, ["--config", config, "--output", run, "--yes", "--json", out], store)
        cost = common.load(work, "whole.json")["tracking_seconds"]
        length = common.load(run, "run.json")["elapsed_seconds"]
        common.run(sqz, ["sync", run], store)
        parent, runs, front = check_study(client, run, "FINISHED")
        check_artifacts(client, parent, run, work)
        check_model(client, parent, runs)
        common.run(sqz, ["sync", run], store)
        check_study(client, run, "FINISHED")
        check_model(client, parent, runs)
        print(f"whole run: {len(runs) - 1} trials, front of {len(front)}; tracking took {cost:.3f} s of {length:.1f} s", flush=True)
        # 2. the run is killed half-way
        run = os.path.join(work, "killed")
        p = common.start(sqz, ["--config", config, "--output", run, "--yes", "--seed", "5"], store)
        wait_for_trials(p, run, 3)
        os.kill(p.pid, signal.SIGKILL)
        p.communicate()
        common.run(sqz, ["sync", run], store)
        check_study(client, run, "KILLED")
        n = len(trials_of(run))
        common.run(sqz, ["run", "--resume", run, "--yes"], store)
        common.run(sqz, ["sync", run], store)
        parent, runs, _ = check_study(client, run, "FINISHED")
        check_artifacts(client, parent, run, work)
        check_model(client, parent, runs)
        print(f"killed after {n - 1} trials, synced, resumed: {len(runs) - 1} trials, each once", flush=True)
        # 3. the server dies half-way
        run, out = os.path.join(work, "alone"), os.path.join(work, "alone.json")
        p = common.start(sqz, ["--config", config, "--output", run, "--yes", "--seed", "6", "--json", out], store)
        wait_for_trials(p, run, 2)
        server.kill()
        _, err = p.communicate()
        assert p.returncode == 0, err[-2000:]
        assert "sqz sync" in err, err[-2000:]
        left = common.load(work, "alone.json")
        common.run(sqz, ["sync", run, "--attempts", "1"], store, expect=8)
        server.start()
        common.run(sqz, ["sync", run], store)
        parent, runs, _ = check_study(client, run, "FINISHED")
        check_artifacts(client, parent, run, work)
        check_model(client, parent, runs)
        length = common.load(run, "run.json")["elapsed_seconds"]
        t = left["tracking"][0]
        print(f"server killed: the run ended well with {t['delivered']:.0f} of {t['events']:.0f} events delivered, tracking took "
              f"{left['tracking_seconds']:.3f} s of {length:.1f} s; synced later, each once", flush=True)
        # 4. something between that is slow, busy, broken, talks rubbish and hangs up, before and after it passed a request on
        between = Between(server)
        run, out = os.path.join(work, "between"), os.path.join(work, "between.json")
        config = common.pipeline(work, tracker=[{"use": "mlflow", "with": {"uri": between.uri}}])
        common.run(sqz, ["--config", config, "--output", run, "--yes", "--seed", "7", "--json", out], store)
        left = common.load(work, "between.json")
        code = subprocess.run([sqz, "sync", run, "--attempts", "8"], env=dict(os.environ, SQZ_REGISTRY=store), check=False).returncode
        assert code in (0, 8), code
        during = dict(between.met)
        assert sum(during.values()) >= 12 and len(during) == 6, during
        between.rounds = None
        common.run(sqz, ["sync", run], store)
        parent, runs, _ = check_study(client, run, "FINISHED")
        check_artifacts(client, parent, run, work)
        check_model(client, parent, runs)
        length, t = common.load(run, "run.json")["elapsed_seconds"], left["tracking"][0]
        print(f"through faults {during}: {t['delivered']:.0f} of {t['events']:.0f} events when the run ended, tracking took "
              f"{left['tracking_seconds']:.3f} s of {length:.1f} s; synced later, each once", flush=True)
    finally:
        server.kill()


main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/sqz"),
     os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "build/mlflow")))
