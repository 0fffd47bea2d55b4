"""Names of the hub: the cache's layout, downloads, and what a server can do wrong.

    hub.py SQZ FOLDER

A server of this file speaks the hub's protocol on one port and is the large files' own host on
another; each test tells it what to break.  Only Python's standard library is used.
"""
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from urllib.parse import unquote, urlsplit

from common import DATA, MODEL, fresh

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED, CONVERTED_COMMIT = "refs/convert/parquet", "76543210fedcba9876543210fedcba9876543210"
TASKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/tasks")
TOKEN = "hf_secretsecretsecret"


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Hub:
    """Repositories, faults and the requests that were seen."""

    def __init__(self):
        self.repos, self.faults, self.seen, self.private = {}, {}, [], set()
        self.api = self.serve("api")
        self.cdn = self.serve("cdn")
        self.url = f"http://127.0.0.1:{self.api.server_port}"
        self.cdn_url = f"http://localhost:{self.cdn.server_port}"

    def serve(self, kind):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, kind)

            def do_GET(self):
                hub.answer(self, kind)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def add(self, kind, repo, files, lfs=(".safetensors", ".parquet"), branch=""):
        """branch: "" is main and every other name but the one that is given."""
        self.repos[kind, repo + "@" + branch if branch else repo] = {name: (data, name.endswith(lfs)) for name, data in files.items()}

    def etag(self, data, lfs):
        return hashlib.sha256(data).hexdigest() if lfs else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def fault(self, *key):
        """The next fault of this request, if the test planned one."""
        for k in (key, key[:1]):
            if self.faults.get(k):
                return self.faults[k].pop(0)
        return None

    def send(self, h, status, body=b"", cut=None, slow=False, **headers):
        h.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for k, v in headers.items():
            h.send_header(k.replace("_", "-"), v)
        h.end_headers()
        if h.command == "HEAD":
            return
        if slow:  # a byte, then nothing: the client must give up
            h.wfile.write(body[:1])
            h.wfile.flush()
            time.sleep(6)
            h.close_connection = True
            return
        h.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            h.wfile.flush()
            h.close_connection = True

    def answer(self, h, where):
        path = unquote(urlsplit(h.path).path)
        self.seen.append((where, h.command, h.path, dict(h.headers)))
        if where == "cdn":
            return self.answer_cdn(h, path)
        kind = "datasets" if path.startswith(("/datasets/", "/api/datasets/", "/cached/datasets/")) else "models"
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            return self.answer_api(h, kind, parts)
        cached = parts[0] == "cached"
        parts = parts[1:] if cached else parts
        parts = parts[1:] if parts[0] == "datasets" else parts
        repo, rev, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        data, lfs = self.repos[kind, repo + "@" + CONVERTED if rev == CONVERTED_COMMIT else repo][name]
        headers = {"X_Repo_Commit": rev if rev == CONVERTED_COMMIT else COMMIT, "ETag": f'"{self.etag(data, lfs)}"'}
        fault = self.fault(h.command, name)
        if fault and fault[0] == "status":
            return self.send(h, fault[1], b"no", **(fault[2] if len(fault) > 2 else {}))
        if fault and fault[0] == "etag":
            headers["ETag"] = '"' + fault[1] + '"'
        if lfs:
            headers.update(X_Linked_Etag=f'"{self.etag(data, lfs)}"', X_Linked_Size=str(len(data)), Location=f"{self.cdn_url}/{kind}/{repo}/{name}?signature=sssh")
            return self.send(h, 302, b"", **headers)
        if not cached and fault is None and name == "tokenizer_config.json":  # a relative redirect
            return self.send(h, 307, b"", Location=f"/cached/{kind + '/' if kind == 'datasets' else ''}{repo}/resolve/{rev}/{name}", X_Repo_Commit=COMMIT)
        self.send_file(h, data, fault, headers)

    def answer_api(self, h, kind, parts):
        repo, rev = "/".join(parts[2:4]), unquote("/".join(parts[5:]))
        fault = self.fault("LIST")
        if fault and fault[0] == "status":
            return self.send(h, fault[1], b"no", **(fault[2] if len(fault) > 2 else {}))
        if fault and fault[0] == "body":
            return self.send(h, 200, fault[1])
        if (kind, repo) not in self.repos or (repo in self.private and h.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self.send(h, 401, b"{}", X_Error_Code="RepoNotFound")
        commit, files = COMMIT, self.repos[kind, repo]
        if rev == CONVERTED:
            commit, files = CONVERTED_COMMIT, self.repos.get((kind, repo + "@" + rev))
        if files is None or rev not in ("main", "v1", "refs/pr/1", COMMIT, CONVERTED):
            return self.send(h, 404, b"{}", X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": n, "size": len(d)} for n, (d, _) in files.items()]
        self.send(h, 200, json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())

    def answer_cdn(self, h, path):
        kind, owner, name, file = path.strip("/").split("/", 3)
        data, _ = self.repos[kind, f"{owner}/{name}"][file]
        self.send_file(h, data, self.fault("CDN", file), {})

    def send_file(self, h, data, fault, headers):
        status, body = 200, data
        if fault and fault[0] == "status":
            return self.send(h, fault[1], b"no", **(fault[2] if len(fault) > 2 else {}))
        if fault and fault[0] == "redirect":
            return self.send(h, 302, b"", Location=fault[1])
        if fault and fault[0] == "bytes":
            body = fault[1]
        if h.headers.get("Range") and not (fault and fault[0] == "whole"):
            begin = int(h.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                return self.send(h, 416)
            status, body = 206, body[begin:]
            headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cut = fault[1] if fault and fault[0] == "cut" else None
        self.send(h, status, body, cut=cut, slow=bool(fault and fault[0] == "slow"), **headers)


class Test:
    def __init__(self, sqz, folder):
        self.sqz, self.folder, self.n, self.hub = sqz, folder, 0, Hub()
        model = {n: read(os.path.join(MODEL, n)) for n in os.listdir(MODEL)}
        self.model = {**model, "model.bin": b"pickle", "original/params.json": b"{}", "model-extra.onnx": b"x", ".gitattributes": b"x"}
        self.hub.add("models", "tiny/arith", self.model)
        rows = read(os.path.join(DATA, "facts_test.jsonl"))
        self.hub.add("datasets", "tiny/facts", {"README.md": b"# x", "main/train.jsonl": rows, "main/test.jsonl": rows, "other/test.jsonl": rows, "main/test.csv": b"a\n1\n"})

    def run(self, *args, home=None, code=0, **env):
        """The program with a cache of its own; its output."""
        home = home or fresh(os.path.join(self.folder, f"home{self.n}"))
        self.n += 1
        self.home, self.cache = home, os.path.join(home, "hub")
        full = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        full.update({"HF_HOME": home, "HF_ENDPOINT": self.hub.url, "SQZ_REGISTRY": os.path.join(self.folder, "store"), "no_proxy": "*", **env})
        self.hub.seen.clear()
        p = subprocess.run([self.sqz, *args], capture_output=True, text=True, env=full, timeout=300)
        assert p.returncode == code, f"{args}: exit code {p.returncode}, not {code}: {p.stderr}"
        assert TOKEN not in p.stdout + p.stderr and "sssh" not in p.stderr, "a secret is shown"
        return p.stdout if code == 0 else p.stderr

    def ids(self, name="tiny/arith", **kw):
        return self.run("tokenize", name, "--text", "Question: 2 + 3", **kw)

    def plan(self, **faults):
        self.hub.faults = {tuple(k.split("|")): list(v) for k, v in faults.items()}

    def clean(self, repo="models--tiny--arith"):
        """Nothing half-done is visible, and every blob is what its name says."""
        root = os.path.join(self.cache, repo)
        for d, _, names in os.walk(root):
            for n in names:
                path = os.path.join(d, n)
                assert ".tmp." not in n, path
                assert os.path.exists(path), f"{path}: dangling"
        blobs = os.path.join(root, "blobs")
        for n in os.listdir(blobs) if os.path.isdir(blobs) else []:
            if not n.endswith(".incomplete"):
                assert self.hub.etag(read(os.path.join(blobs, n)), len(n) == 64) == n, n

    # ---- tests -------------------------------------------------------------------------------

    def layout(self):
        want = self.run("tokenize", MODEL, "--text", "Question: 2 + 3")
        assert self.ids() == want
        root = os.path.join(self.cache, "models--tiny--arith")
        assert read(os.path.join(root, "refs/main")) == COMMIT.encode()
        snapshot = os.path.join(root, "snapshots", COMMIT)
        assert sorted(os.listdir(snapshot)) == sorted(n for n in self.model if n in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"))
        link = os.readlink(os.path.join(snapshot, "tokenizer.json"))
        data = self.model["tokenizer.json"]
        assert link == "../../blobs/" + self.hub.etag(data, False), link
        assert os.path.isdir(os.path.join(self.cache, ".locks/models--tiny--arith"))
        self.clean()
        # again: the list of files is asked for, no file is
        assert self.ids(home=self.home) == want
        assert [s[1] for s in self.hub.seen] == ["GET"], self.hub.seen
        # offline, and without a server
        assert self.ids(home=self.home, HF_HUB_OFFLINE="1") == want and not self.hub.seen
        assert self.ids(home=self.home, SQZ_OFFLINE="1") == want and not self.hub.seen
        assert "not (whole) in the cache" in self.ids("tiny/other", home=self.home, HF_HUB_OFFLINE="1", code=3)
        for rev in ("v1", "refs/pr/1", COMMIT):
            assert self.ids("tiny/arith@" + rev, home=self.home) == want
        assert os.path.exists(os.path.join(root, "refs/refs/pr/1")) and not os.path.exists(os.path.join(root, "refs", COMMIT))
        assert 'no revision "v9"' in self.ids("tiny/arith@v9", code=3)

    def weights(self):
        """All of the model; large files come from another host, which never sees the token."""
        self.hub.private.add("tiny/arith")
        said = self.ids(code=3)
        assert "HF_TOKEN" in said, said
        args = ("generate", "tiny/arith", "--prompt", "Question: What is 2 + 3?", "--max-new-tokens", "4")
        text = self.run(*args, HF_TOKEN=TOKEN)
        want = self.run("generate", MODEL, *args[2:])
        assert text == want, (text, want)
        assert self.run(*args, HF_TOKEN=f" {TOKEN}\n") == want
        home = fresh(os.path.join(self.folder, "token"))
        with open(os.path.join(home, "token"), "w") as f:
            f.write(TOKEN + "\n")
        assert self.run(*args, home=home) == want
        seen = self.hub.seen[:]
        assert any(s[0] == "cdn" for s in seen)
        for where, _, path, headers in seen:
            assert (headers.get("Authorization") == f"Bearer {TOKEN}") == (where == "api"), (where, path)
        assert not any("bin" in s[2] or "onnx" in s[2] or "original" in s[2] for s in seen)
        self.clean()
        self.hub.private.clear()

    def faults(self):
        want, big = self.ids(), len(self.model["model.safetensors"])
        generate = ("generate", "tiny/arith", "--prompt", "Question:", "--max-new-tokens", "1")
        answer = self.run(*generate)
        cases = {
            "truncation, twice": {"CDN|model.safetensors": [("cut", 1000), ("cut", 500)]},
            "truncation, then no Range": {"CDN|model.safetensors": [("cut", 1000), ("whole",)]},
            "429 with Retry-After": {"LIST": [("status", 429, {"Retry_After": "1"})], "HEAD|config.json": [("status", 429, {"Retry_After": "0"})]},
            "5xx": {"LIST": [("status", 503)], "HEAD|config.json": [("status", 500)], "CDN|model.safetensors": [("status", 502), ("status", 504)]},
            "wrong bytes, once": {"CDN|model.safetensors": [("bytes", b"x" * big)]},
            "one more host": {"CDN|model.safetensors": [("redirect", f"http://127.0.0.1:{self.hub.cdn.server_port}/models/tiny/arith/model.safetensors")]},
            "slow, once": {"CDN|model.safetensors": [("slow",)]},
        }
        for name, faults in cases.items():
            self.plan(**faults)
            assert self.run(*generate, HF_HUB_DOWNLOAD_TIMEOUT="2") == answer, name
            assert not any(self.hub.faults.values()), f"{name}: not met: {self.hub.faults}"
            if name == "truncation, twice":
                ranges = [s[3].get("Range") for s in self.hub.seen if s[0] == "cdn"]
                assert ranges == [None, "bytes=1000-", "bytes=1500-"], ranges
            self.clean()
        # broken for good: a clear end, and nothing in the cache that is not what its name says
        bad = {
            "wrong hash": ({"CDN|model.safetensors": [("bytes", b"x" * big)] * 9}, 7, "announced hash"),
            "too long": ({"CDN|model.safetensors": [("bytes", b"x" * (big + 1))] * 9}, 3, "announced"),
            "no hash": ({"HEAD|config.json": [("etag", "v1.2")] * 9}, 8, "no hash"),
            "gone": ({"HEAD|config.json": [("status", 404, {"X_Error_Code": "EntryNotFound"})]}, 3, "not found"),
            "gated": ({"LIST": [("status", 403, {"X_Error_Code": "GatedRepo"})]}, 3, "accept its conditions"),
            "always 503": ({"LIST": [("status", 503)] * 9}, 8, "503"),
            "wait too long": ({"LIST": [("status", 429, {"Retry_After": "9999"})]}, 8, "too many requests"),
            "no JSON": ({"LIST": [("body", b"<html>")]}, 8, "unusable"),
            "a name that leads out": ({"LIST": [("body", json.dumps({"sha": COMMIT, "siblings": [{"rfilename": n} for n in ("additional_chat_templates/../../../../../x.jinja", "config.json", "model.safetensors")]}).encode())]}, 3, "leads elsewhere"),
            "circles": ({"CDN|model.safetensors": [("redirect", f"{self.hub.cdn_url}/models/tiny/arith/model.safetensors")] * 99}, 3, "circles"),
            "other schemes": ({"CDN|model.safetensors": [("redirect", "file:///etc/passwd")] * 9}, 3, "no usable address"),
        }
        for name, (faults, code, words) in bad.items():
            self.plan(**faults)
            said = self.run(*generate, code=code)
            assert words in said, (name, said)
            self.clean()
            if name == "wrong hash":
                left = os.listdir(os.path.join(self.cache, "models--tiny--arith/blobs"))
                assert not any("incomplete" in n for n in left), left
        # a server that fails while the cache is whole: the cache is used, with a word
        home = os.path.join(self.folder, "served")
        fresh(home)
        self.plan()
        assert self.ids(home=home) == want
        self.plan(LIST=[("status", 503)] * 9)
        assert self.ids(home=home) == want
        self.plan()

    def resumed(self):
        """A killed download goes on where it was."""
        data = self.model["model.safetensors"]
        home = fresh(os.path.join(self.folder, "resumed"))
        blobs = os.path.join(home, "hub/models--tiny--arith/blobs")
        os.makedirs(blobs)
        with open(os.path.join(blobs, self.hub.etag(data, True) + ".sqz.incomplete"), "wb") as f:
            f.write(data[:4321])
        generate = ("generate", "tiny/arith", "--prompt", "Question:", "--max-new-tokens", "1")
        self.run(*generate, home=home)
        assert [s[3].get("Range") for s in self.hub.seen if s[0] == "cdn"] == ["bytes=4321-"]
        self.clean()

    def together(self):
        """Processes that start at once download each file once."""
        home = fresh(os.path.join(self.folder, "together"))
        env = {**os.environ, "HF_HOME": home, "HF_ENDPOINT": self.hub.url, "no_proxy": "*"}
        env.pop("HF_HUB_CACHE", None)
        self.hub.seen.clear()
        all_ = [subprocess.Popen([self.sqz, "tokenize", "tiny/arith", "--text", "2"], env=env, stdout=subprocess.PIPE) for _ in range(3)]
        outs = {p.communicate(timeout=120)[0] for p in all_}
        assert len(outs) == 1 and all(p.returncode == 0 for p in all_)
        gets = [s[2] for s in self.hub.seen if s[1] == "GET" and s[2].endswith("/tokenizer.json")]
        assert len(gets) == 1, gets

    def refused(self):
        self.hub.add("models", "tiny/pickle", {"config.json": b"{}", "pytorch_model.bin": b"x"})
        self.hub.add("models", "tiny/gguf", {"config.json": b"{}", "m.gguf": b"x"})
        assert "save_pretrained" in self.run("generate", "tiny/pickle", "--prompt", "x", code=2)
        assert "GGUF" in self.run("generate", "tiny/gguf", "--prompt", "x", code=2)
        for name in ("../x", "a/..", "a/../b", "a/b/c", "a//b", "a/b@", "a/b@..", "a/b@x/../y", "a/b@-x", "a/b c", ".a/b", "a--b/c", "a/b@/etc"):
            self.run("tokenize", name, "--text", "x", code=3)
            assert not self.hub.seen, (name, self.hub.seen)
            assert not os.path.exists(self.cache), name
        assert "https://" in self.ids(HF_ENDPOINT="ftp://x", code=2)

    def datasets(self):
        want = self.run("eval", MODEL, "--dataset", "facts=" + os.path.join(DATA, "facts_test.jsonl"), "--limit", "8", "--json", "-")
        got = self.run("eval", MODEL, "--dataset", "tiny/facts:main:test", "--limit", "8", "--json", "-")
        a, b = json.loads(want)["results"]["facts"], json.loads(got)["results"]["facts"]
        assert a["acc"] == b["acc"] and a["n"] == b["n"], (a, b)
        files = [s[2] for s in self.hub.seen if s[1] == "HEAD"]
        assert len(files) == 1 and files[0].endswith("main/test.jsonl"), files
        assert json.loads(self.run("eval", MODEL, "--dataset", "x=tiny/facts:main", "--limit", "8", "--json", "-"))["results"]["x"]["n"] == 8
        assert "no data files" in self.run("eval", MODEL, "--dataset", "tiny/facts:zz:test", code=3)
        assert "none of that name" in self.run("eval", MODEL, "--dataset", "tiny/nothing", code=3)

    def fetched(self):
        """The files that were asked for."""
        return sorted(s[2].split("/", 6)[6] for s in self.hub.seen if s[1] == "HEAD")

    def result(self, spec, *more, **kw):
        return json.loads(self.run("eval", MODEL, "--dataset", spec, *more, "--json", "-", **kw))["results"]

    def same(self, a, b):
        timing = ("seconds", "tokens_per_second")
        a, b = ({k: v for k, v in x.items() if k not in timing} for x in (a, b))
        assert a == b, (a, b)

    def add_tasks(self):
        rows = lambda task, split: read(os.path.join(TASKS, task, split + ".jsonl"))
        self.lambada = rows("lambada_openai", "test")
        self.hub.add("datasets", "EleutherAI/lambada_openai", {"data/lambada_test.jsonl": self.lambada, "data/lambada_test_de.jsonl": b'{"text": "ja"}\n', "lambada.py": b"x"})
        arc = {f"ARC-Easy/{s}.jsonl": rows("arc_easy", s) for s in ("train", "test")}
        self.hub.add("datasets", "allenai/ai2_arc", {**arc, "ARC-Challenge/test.jsonl": b"{}\n"})
        self.hub.add("datasets", "Rowan/hellaswag", {"hellaswag.py": b"x"})
        self.hub.add("datasets", "Rowan/hellaswag", {"default/validation/0000.jsonl": rows("hellaswag", "validation"), "default/train/0000.jsonl": b"{}\n"}, branch=CONVERTED)
        mmlu = {f"us_foreign_policy/{s}-00000-of-00001.jsonl": rows("mmlu_us_foreign_policy", s) for s in ("test", "dev")}
        self.hub.add("datasets", "cais/mmlu", mmlu)

    def tasks(self):
        """Tasks by their bare names: the splits they need, and no other file."""
        self.add_tasks()
        local = self.result("lambada_openai=" + os.path.join(TASKS, "lambada_openai/test.jsonl"))["lambada_openai"]
        self.same(self.result("lambada_openai")["lambada_openai"], local)
        assert self.fetched() == ["data/lambada_test.jsonl"], self.fetched()
        home = self.home
        self.same(self.result("lambada_openai", home=home)["lambada_openai"], local)
        assert [s[1] for s in self.hub.seen] == ["GET"], self.hub.seen
        self.same(self.result("lambada_openai", home=home, HF_HUB_OFFLINE="1")["lambada_openai"], local)
        assert not self.hub.seen
        self.plan(LIST=[("status", 503)] * 9)  # no server: the cache will do
        self.same(self.result("lambada_openai", home=home)["lambada_openai"], local)
        self.plan()
        # examples come from the training split, which is wanted only with them
        folder = os.path.join(TASKS, "arc_easy")
        self.same(self.result("arc_easy")["arc_easy"], self.result("arc_easy=" + folder)["arc_easy"])
        got = self.result("arc_easy", "--num-fewshot", "1", "--limit", "3")["arc_easy"]
        assert self.fetched() == ["ARC-Easy/test.jsonl", "ARC-Easy/train.jsonl"], self.fetched()
        self.same(got, self.result("arc_easy=" + folder, "--num-fewshot", "1", "--limit", "3")["arc_easy"])
        # a script on the main branch: the hub's conversion
        got = self.result("hellaswag")["hellaswag"]
        assert self.fetched() == ["default/validation/0000.jsonl"], self.fetched()
        assert read(os.path.join(self.cache, "datasets--Rowan--hellaswag/refs", CONVERTED)) == CONVERTED_COMMIT.encode()
        self.same(self.result("hellaswag", home=self.home, SQZ_OFFLINE="1")["hellaswag"], got)
        self.same(got, self.result("hellaswag=" + os.path.join(TASKS, "hellaswag"))["hellaswag"])
        # a member of a group, and a group of which a member is missing
        assert self.result("mmlu_us_foreign_policy", "--limit", "4")["mmlu_us_foreign_policy"]["n"] == 4
        assert self.fetched() == ["us_foreign_policy/test-00000-of-00001.jsonl"], self.fetched()
        assert "subset abstract_algebra" in self.run("eval", MODEL, "--dataset", "mmlu", code=3)
        # a definition of the user's own, with a revision
        own = os.path.join(self.folder, "own.json")
        with open(own, "w") as f:
            json.dump({"task": "own", "output_type": "loglikelihood", "dataset_path": "EleutherAI/lambada_openai", "test_split": "test", "doc_to_text": "", "doc_to_target": "{{text}}", "dataset_kwargs": {"revision": "v1", "data_files": {"test": "data/*_de.jsonl"}}, "metric_list": ["acc"]}, f)
        assert self.result(own)["own"]["n"] == 1 and self.fetched() == ["data/lambada_test_de.jsonl"]

    def task_faults(self):
        self.add_tasks()
        name, ask = "data/lambada_test.jsonl", ("eval", MODEL, "--dataset", "lambada_openai")
        cases = {
            "missing": ({f"HEAD|{name}": [("status", 404, {"X_Error_Code": "EntryNotFound"})]}, 3, "not found"),
            "wrong hash": ({f"GET|{name}": [("bytes", b"x" * len(self.lambada))] * 9}, 7, "announced hash"),
            "refused": ({"LIST": [("status", 401)]}, 3, "HF_TOKEN"),
            "no server": ({"LIST": [("status", 503)] * 9}, 8, "503"),
        }
        for case, (faults, code, words) in cases.items():
            self.plan(**faults)
            said = self.run(*ask, code=code)
            assert words in said and "lambada_openai=FILE" in said, (case, said)
            self.clean("datasets--EleutherAI--lambada_openai")
        self.plan()
        self.hub.add("datasets", "EleutherAI/lambada_openai", {"lambada.py": b"x"})
        assert "no data files" in self.run(*ask, code=3)
        said = self.run(*ask, HF_HUB_OFFLINE="1", code=3)
        assert "not (whole) in the cache" in said and not self.hub.seen, said
        # the cache holds the test split only; offline its examples are missing
        self.run("eval", MODEL, "--dataset", "arc_easy", "--limit", "1")
        assert "not (whole) in the cache" in self.run("eval", MODEL, "--dataset", "arc_easy", "--num-fewshot", "2", home=self.home, HF_HUB_OFFLINE="1", code=3)

    def elsewhere(self):
        """Names where data is looked at, calibrates, or stands in a pipeline file."""
        self.add_tasks()
        said = json.loads(self.run("data", "stats", "tiny/facts", "--json", "-"))
        assert sorted((s["subset"], s["split"]) for s in said["splits"]) == [("main", "test"), ("main", "train"), ("other", "test")], said
        said = json.loads(self.run("data", "stats", "tiny/facts:main:train", "--against", "tiny/facts:other:test", "--json", "-"))
        assert said["against"][0]["this"]["exact_rows"] == said["splits"][0]["rows"] > 0, said
        assert self.run("data", "show", "arc_easy", "--rows", "1", "--as-text").startswith('"')
        self.hub.add("datasets", "tiny/text", {"train.jsonl": read(os.path.join(DATA, "calib.jsonl"))})
        out = os.path.join(self.folder, "q")
        said = json.loads(self.run("quantize", MODEL, "--method", "gptq", "--calibration", "arc_easy@1,tiny/facts:main:train@1", "--against", "arc_easy", "--samples", "4", "--seq-len", "64", "--output", out, "--json", "-"))
        assert self.fetched() == ["ARC-Easy/test.jsonl", "ARC-Easy/train.jsonl", "main/train.jsonl"], self.fetched()
        assert said["calibration"]["tokens"] == 256, said["calibration"]
        config = os.path.join(self.folder, "pipeline.json")
        with open(config, "w") as f:
            json.dump({"model": "tiny/arith", "dataset": [{"source": "arc_easy", "limit": 4}, {"source": "mine=tiny/facts:main:test", "limit": 4}], "calibration": {"source": "tiny/text", "samples": 2, "seq_len": 64}, "budget": {"trials": 1}}, f)
        run = os.path.join(self.folder, "run")
        self.run("run", "--config", config, "--output", run, "--yes", "--quiet")
        trials = [json.loads(line) for line in open(os.path.join(run, "trials.jsonl"))]
        assert trials and all(t["outcome"] == "ok" for t in trials), trials
        datasets = json.load(open(os.path.join(run, "run.json")))["config_full"]["dataset"]
        assert [d["source"].split("=")[0] for d in datasets] == ["arc_easy", "mine"] and all(os.path.exists(d["source"].split("=")[1].split(":")[0]) for d in datasets), datasets


def main():
    sqz, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
    fresh(folder)
    t = Test(sqz, os.path.abspath(folder))
    names = sys.argv[3:] or ["layout", "weights", "faults", "resumed", "together", "refused", "datasets", "tasks", "task_faults", "elsewhere"]
    for name in names:
        begin = time.time()
        t.plan()
        getattr(t, name)()
        print(f"{name}: ok, {time.time() - begin:.1f} s")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
