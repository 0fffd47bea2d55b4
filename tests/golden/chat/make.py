"""Writes cases.jsonl: chat templates rendered by transformers and Jinja, for tests/unit/test_chat.c.

    python3 make.py     (needs transformers and jinja2)

A line: what chat_render gets, and "text", or "error": true where the reference refuses, or
"refused": true where sqz refuses by name what the reference renders.
"""
import json
import os
import sys
from datetime import datetime

os.environ["TZ"] = "UTC"
import transformers.utils.chat_template_utils as chat  # noqa: E402
from corpus import CONVERSATIONS, PROGRAMS, REFUSED, TEMPLATES, TOKENS, TOOLS, VARIABLES, expressions  # noqa: E402

NOW = 1735689600  # 2025-01-01


class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, tz)


chat.datetime = Clock


def reference(case):
    """The text, or None where the template refuses."""
    messages = [{k: v for k, v in m.items() if v is not None} for m in case["messages"]]
    try:
        out, _ = chat.render_jinja_template([messages], tools=case.get("tools"), chat_template=case["template"], add_generation_prompt=case.get("add_generation_prompt", False),
                                            **{**case.get("tokens", {}), **case.get("variables", {})})
        return out[0]
    except Exception:  # noqa: BLE001 - whatever it is, the reference gives no text
        return None


def cases():
    for name, template in TEMPLATES.items():
        for title, messages in CONVERSATIONS.items():
            for tools in (None, TOOLS):
                for prompt in (False, True):
                    case = {"title": f"{name}/{title}/{'tools' if tools else 'plain'}/{prompt}", "template": template, "messages": messages, "tokens": TOKENS, "add_generation_prompt": prompt, "now": NOW}
                    if tools:
                        case["tools"] = tools
                    if name == "qwen3" and prompt:
                        case["variables"] = {"enable_thinking": False}
                    if name == "llama3" and title == "turns":
                        case["variables"] = {"tools_in_user_message": False}
                    yield case
    hello = [{"role": "user", "content": "hi"}]
    for text in ["{{ " + e + " }}" for e in expressions()] + PROGRAMS:
        yield {"title": text, "template": text, "messages": hello, "variables": VARIABLES, "now": NOW}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    n = refused = 0
    with open(os.path.join(here, "cases.jsonl"), "w", encoding="utf-8") as f:
        for case in cases():
            text = reference(case)
            # What all expressions share is stored once, by the test program's own defaults.
            stored = {k: v for k, v in case.items() if k not in ("variables", "messages") or "tokens" in case}
            if "tokens" in case:
                name, title = case["title"].split("/")[:2]
                stored["template"], stored["messages"] = "=" + name, "=" + title
                stored.pop("tokens")
                if "tools" in stored:
                    stored["tools"] = "="
            stored.pop("now")
            named = any(r in case["title"] for r in REFUSED)
            stored.update({"refused": True} if named else {"text": text} if text is not None else {"error": True})
            f.write(json.dumps(stored, ensure_ascii=False) + "\n")
            n += 1
            refused += text is None
    with open(os.path.join(here, "shared.json"), "w", encoding="utf-8") as f:
        json.dump({"templates": TEMPLATES, "conversations": CONVERSATIONS, "tools": TOOLS, "tokens": TOKENS, "variables": VARIABLES, "now": NOW}, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print(f"{n} cases, {refused} refused", file=sys.stderr)


if __name__ == "__main__":
    main()
