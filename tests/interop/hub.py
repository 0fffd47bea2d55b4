"""The hub's cache shared with huggingface_hub, both ways, over the server of tests/e2e/hub.py.

    python tests/interop/hub.py [SQZ]      (an interpreter with huggingface_hub)
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
os.environ["no_proxy"] = "*"
os.environ.pop("HF_HUB_OFFLINE", None)  # the only hub asked is the one started here


def main():
    sqz = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/sqz"))
    with tempfile.TemporaryDirectory() as folder:
        import hub as server

        test = server.Test(sqz, os.path.join(folder, "sqz"))
        os.environ["HF_ENDPOINT"] = test.hub.url
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache

        want = test.ids()
        found = try_to_load_from_cache("tiny/arith", "tokenizer.json", cache_dir=test.cache)
        assert isinstance(found, str) and server.read(found) == test.model["tokenizer.json"], found
        info = scan_cache_dir(test.cache)
        assert not info.warnings and {r.repo_id for r in info.repos} == {"tiny/arith"}, info.warnings

        home = os.path.join(folder, "theirs")
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            hf_hub_download("tiny/arith", name, cache_dir=os.path.join(home, "hub"))
        env = {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1"}
        got = subprocess.run([sqz, "tokenize", "tiny/arith", "--text", "Question: 2 + 3"], env=env, capture_output=True, text=True, check=True).stdout
        assert got == want, (got, want)
        print("huggingface_hub and sqz find what the other downloaded, and no fault in the cache")


if __name__ == "__main__":
    main()
