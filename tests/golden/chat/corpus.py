"""What the chat template tests render: templates of our own that use the constructs of published
ones, conversations, and single expressions.  make.py and tests/interop/chat.py use it."""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message comes out first, so the loop below need not look for it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Tools need a first user message!") }}
    {%- endif %}
    {{- '<|head|>user<|/head|>\\n\\n' -}}
    {{- 'Answer with {"name": function name, "parameters": dictionary}.\\n\\n' }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|head|>assistant<|/head|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|head|>ipython<|/head|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""

QWEN3 = """{%- if tools %}
    {{- '<im>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}</im>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<im>system\\n' + messages[0].content + '</im>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<im>' + message.role + '\\n' + content + '</im>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<im>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<im>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<im>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '</im>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<im>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '</im>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<im>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL_V1 = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

MISTRAL_V3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Checks the alternation of roles; tool messages do not count. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the system message, roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""

GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

PHI3 = """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{% generation %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endgeneration %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""

MACROS = """{%- macro kind(spec, depth=0) -%}
    {%- if spec.type == 'object' -%}
        { {% for name, p in spec.properties|dictsort %}{{ name }}{{ '' if name in (spec.required or []) else '?' }}: {{ kind(p, depth=depth + 1) }}{% if not loop.last %}, {% endif %}{% endfor %} }
    {%- elif spec.type == 'array' -%}
        {{ kind(spec['items']) }}[]
    {%- elif spec.enum -%}
        {{ spec.enum|map('tojson')|join(' | ') }}
    {%- elif spec.type is not string and spec.type is sequence -%}
        {{ spec.type|join(' or ') }}
    {%- else -%}
        {{ spec.type|default('any', true) }}
    {%- endif -%}
{%- endmacro -%}
{%- macro upper_first(text) %}{{ text[:1]|upper ~ text[1:] }}{% endmacro -%}
{% for tool in tools or [] %}
  {%- set f = tool.function %}
  // {{ upper_first(f.description or 'no description') }}
  {{ f.name }} = {{ kind(f.parameters) }}
{% else %}
no tools
{% endfor %}
{%- for m in messages if m.role != 'system' %}
    {%- if loop.previtem is defined and loop.previtem.role == m.role %}{% continue %}{% endif %}
    {%- if loop.index > 6 %}{% break %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ m.role|title }} {{ loop.revindex0 }} {{ loop.cycle('a', 'b') }}: {{ m.content|string|replace('\\n', ' ')|trim|indent(2) }}
{% endfor %}
{%- set heads | upper %}{% for m in messages %}{{ m.role[0] }}{{ '-' if not loop.last }}{% endfor %}{% endset %}
{{ heads }}
{%- with a = 1, b = 2 %} {{ a + b }} {% endwith %}
{%- filter upper %}done {{ eos_token }}{% endfilter %}
{% raw %}{{ not.rendered }}{% endraw %}
"""

TEMPLATES = {"llama3": LLAMA3, "qwen3": QWEN3, "mistral_v1": MISTRAL_V1, "mistral_v3": MISTRAL_V3, "gemma": GEMMA, "gemma3": GEMMA3, "phi3": PHI3, "macros": MACROS}

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "the weather of a place", "parameters": {
        "type": "object", "properties": {"place": {"type": "string", "description": "a \"town\" <or> an ‘isle’ & more"}, "days": {"type": ["integer", "null"], "default": 1.0},
                                         "unit": {"type": "string", "enum": ["C", "F"]}, "spots": {"type": "array", "items": {"type": "number", "minimum": -1e-7}}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}, "return": {"type": "string"}}},
]

CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich\n\"old\" town", "days": 2, "deep": {"a": [1, 2.5, None, True]}}}}

CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello!"}],
    "spaces": [{"role": "user", "content": "  \n two\t lines \n\n"}, {"role": "assistant", "content": "\u3000wide "}, {"role": "user", "content": "<b>&'\"</b> \U0001F600 é"}],
    "system": [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Hi"}],
    "turns": [{"role": "system", "content": "You know\nthings."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "and 3+3?"},
              {"role": "assistant", "content": "<think>\nsum\n</think>\n\n6"}, {"role": "user", "content": "thanks"}],
    "tools": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
              {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "{\"sky\": \"clear\"}"}, {"role": "assistant", "content": "Clear."}, {"role": "user", "content": "Good"}],
    "two calls": [{"role": "user", "content": "Both"}, {"role": "assistant", "content": "calling", "tool_calls": [CALL, {**CALL, "id": "jklmnopqr"}]},
                  {"role": "tool", "content": "1", "tool_call_id": "abcdefghi"}, {"role": "tool", "content": "2", "tool_call_id": "jklmnopqr"}],
    "thinking": [{"role": "user", "content": "Why?"}, {"role": "assistant", "reasoning": "because", "content": "So."}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}, {"role": "assistant", "content": "seen"}],
    "wrong order": [{"role": "assistant", "content": "first"}, {"role": "user", "content": "second"}],
    "odd role": [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}],
}

# Single expressions: {"x": value} are the variables of all of them.
VARIABLES = {"s": "Hello, World", "u": "äÖß ŉ ΣΑΣ İx \u2028 ’tis", "e": "", "n": 7, "m": -3, "f": 2.5, "big": 1e22, "small": 1.5e-7, "t": True, "no": False, "nil": None,
             "l": [3, 1, 2], "ls": ["b", "A", "c"], "d": {"b": 1, "a": [1, {"k": "v"}], "items": "own"}, "q": "it's \"q\" \\ \n\t\x07\x7f\u00ad",
             "rows": [{"k": "x", "v": 2, "o": {"z": 5}}, {"k": "Y", "v": 1}, {"k": "x", "v": None}], "ws": " \u00a0\t a  b \n", "lines": "a\nb\r\nc\n\nd\n"}

EXPRESSIONS = r"""
n + 1|n - m * 2|n / 2|n // 2|m // 2|n % 3|m % 3|m % -2|n ** 2|n ** -1|2 ** 0.5|-n ** 2|+n|f * 2|f // 1|f % 1|-f|n + t|t + t|1e3|1_000|12.50|.5 is defined|big|small|1e16|1e15|123456789012345680.0|0.1 + 0.2|1/3|-0.0|5.0|1e-5|0.0001
s + '!'|s * 2|0 * s|l * 2|l + [4]|(1, 2) + (3,)|s ~ n ~ nil ~ t ~ f ~ l|s[0]|s[-1]|s[99]|s[1:4]|s[::-1]|s[::2]|s[-3:]|s[:-3]|s[5:2]|u[1]|u[::-1]|u[2:5]|l[0]|l[-1]|l[9]|l[::-1]|l[1:]|l['x']|l[0:2:1]|l[True]|nil[1:]|n['x']|d['b']|d.b|d.a[1].k|d['a'][0]|d.zz|d.zz is defined|d['items']|d.items() | list|d.get('b')|d.get('zz')|d.get('zz', 5)|d.keys()|d.values() | list|d.items()|(1,)|()|[]|{}|{'a': 1, 2: nil, 1.5: t}|{'a': 1}.a|[1, 'a', nil, 2.0, (1, 2), {'k': q}]|range(3)|list|range(3) | list|range(1, 10, 4) | list|range(5, 0, -2) | list|dict(a=1, b='x')|dict([('a', 1)])
not n|n and s|e or 'x'|nil and 1|n > 3 and n < 9|1 < n < 9|1 < n < 3|n == 7.0|t == 1|'a' == 'a'|s != 'x'|l == [3, 1, 2]|d == {}|nil == no|'W' in s|'w' in s|3 in l|9 not in l|'b' in d|'' in s|undef == undef2|undef|undef is defined|undef in l|3 in undef|[1, 2] < [1, 3]|'a' < 'b'|s if n else e|s if no|('x' if nil else 'y') ~ 'z'|1 if t else 2 if no else 3
n is number|t is number|f is float|n is integer|t is integer|t is boolean|n is boolean|s is string|nil is none|d is mapping|l is mapping|l is sequence|d is sequence|s is sequence|n is sequence|undef is sequence|undef is iterable|s is iterable|n is iterable|(l|map('string')) is sequence|n is odd|n is even|n is divisibleby 7|n is divisibleby(3)|n is eq 7|n is equalto(7)|n is ne 7|n is gt 3|n is lt 3|n is ge 7|n is le 7|'a' is in ['a']|n is not none|not n is none|t is true|no is false|n is true|s is upper|'ABC' is upper|'abc' is lower|t is sameas true|raise_exception is callable|n is callable|s is defined and n is defined|1 + n is number
s | upper|s | lower|u | upper|u | lower|u | title|u.title()|u.capitalize()|s | capitalize|'hello wORLD-foo (bar' | title|s | length|u | length|l | length|d | length|undef | length|s | trim('Hd')|ws | trim|ws.strip()|ws.lstrip()|ws.rstrip()|ws.split()|ws.split(' ')|s.split(', ')|s.split('l', 1)|s.rsplit('l', 1)|'a b  c '.split(none, 1)|' a b  c'.rsplit(none, 1)|s.split('zz')|lines.splitlines()|lines.splitlines(true)|s.startswith('Hell')|s.startswith(('x', 'H'))|s.endswith('ld')|s.replace('l', 'L')|s.replace('l', 'L', 2)|s.replace('', '-')|'é'.replace('', '-')|s | replace('l', 'L')|s | replace('l', 'L', 1)|n | replace('7', '8')|s.find('o')|s.rfind('o')|s.find('q')|u.find('Σ')|s.index('W')|s.count('l')|s.partition(', ')|s.rpartition('o')|s.removeprefix('Hello')|s.removesuffix('x')|', '.join(ls)|'12'.isdigit()|'1a'.isdigit()|'ab'.isalpha()|'a1'.isalnum()|' '.isspace()|''.isspace()|'a'.center(4, '*')|'a'.ljust(3) ~ '|'|'a'.rjust(3)|s.upper().lower()
l | first|l | last|e | first|[] | last|s | first|d | first|l | join|l | join(', ')|rows | join('-', attribute='k')|l | list|s[:3] | list|l | sort|ls | sort|ls | sort(case_sensitive=true)|ls | sort(reverse=true)|rows | sort(attribute='k') | map(attribute='v') | list|l | reverse | list|s | reverse|d | dictsort|d | items | list|{'b': 1, 'A': 2} | dictsort|{'b': 1, 'A': 2} | dictsort(true)|{'b': 1, 'A': 2} | dictsort(by='value', reverse=true)|l | map('string') | join('+')|ls | map('upper') | list|rows | map(attribute='k') | list|rows | map(attribute='o.z') | list|rows | map(attribute='o.z', default=0) | list|rows | selectattr('v') | list|rows | selectattr('k', 'equalto', 'x') | list | length|rows | selectattr('v', 'none') | map(attribute='k') | first|rows | rejectattr('k', 'eq', 'x') | list|l | select('odd') | list|l | reject('gt', 1) | list|[0, 1, '', 'a'] | select | list|[0, 1] | reject | list|ls | unique | list|['a', 'A', 'b'] | unique | list|l | min|l | max|ls | max|l | sum|rows | selectattr('v') | sum(attribute='v')|'yes' if rows | selectattr('k', 'equalto', 'nothing')|(l | map('string')) | first
undef | default('d')|nil | default('d')|nil | default('d', true)|e | d('x', boolean=true)|'12' | int|'12.7' | int|'x' | int|'x' | int(5)|f | int|-2.7 | int|nil | int|' 42 ' | int|'1_000' | int|'2.5' | float|'x' | float|n | float|'1e3' | float|m | abs|-2.5 | abs|2.567 | round(2)|2.5 | round|3.5 | round|7 | round|2.1 | round(method='ceil')|2.9 | round(0, 'floor')|n | string ~ 'x'|l | string|q | string|[q]|lines | indent|lines | indent(2, true)|lines | indent('> ', blank=true)|e | indent(first=true)|s | safe|(s | safe) ~ '<'
d | tojson|q | tojson|u | tojson|u | tojson(ensure_ascii=true)|'😀' | tojson(ensure_ascii=true)|l | tojson(indent=2)|d | tojson(indent=1)|{} | tojson(indent=2)|[] | tojson(indent=2)|d | tojson(separators=(',', ':'))|d | tojson(sort_keys=true)|d | tojson(indent='\t')|nil | tojson|f | tojson|big | tojson|(1, 2) | tojson|{1: 2, none: 3, true: 4, 1.5: 5} | tojson|undef | tojson|s | tojson ~ 'x'|range(2) | tojson
'\x41\u00e9\U0001F600\n\'\"\\\101\d'|"a" 'b'|'a' 'b' | upper|strftime_now('%Y-%m-%d')|raise_exception('no ' ~ n)|undef.x|undef['x']|undef()|n()|nil.x|nil + 1|s + n|n < s|l | upper|1 in s|undef + 1|s.nothing|s.nothing()|l.append(1)|d.pop('a')|d.update({})|n | items|undef | items | list|n | list|n | first|(l | map('string')) | length|namespace(a=1).a|namespace(a=1).b|s.__class__|d.__class__|d | join|l.index(2)|l.count(2)|l.index(9)|'%s' % n|s.format(1)|s.zfill(3)|joiner()|l.copy()|d.copy() == d|1 // 0|s[::0]|{'a': 1, 'a': 2}|[1, 2][0]|(1, 2)[1]|n.real is defined|loop is defined|messages is defined|tools is none|s.split('')
"""

# What sqz refuses by name although the reference renders it.
REFUSED = ["'%s' %", ".format(", "zfill", "joiner", "lipsum", "{{ self", "n.real", "{% block", "{{ range(3) }}", "{{ n | items }}"]


def expressions():
    """The list above; a bar with a space before it belongs to the expression."""
    out = []
    for line in EXPRESSIONS.strip().split("\n"):
        part, quote, depth = "", None, 0
        for i, c in enumerate(line):
            if quote:
                quote = None if c == quote and line[i - 1] != "\\" else quote
            elif c in "'\"":
                quote = c
            elif c in "([{":
                depth += 1
            elif c in ")]}":
                depth -= 1
            if c == "|" and not quote and not depth and not part.endswith(" "):
                out.append(part)
                part = ""
            else:
                part += c
        out.append(part)
    return out


# Statements and white space, rendered with VARIABLES.
PROGRAMS = [
    "a\n  {% if t %}\n  b\n  {% endif %}\nc\n", "a\n  {%- if t -%}  \n  b\n  {%- endif +%}\nc\n\n", "  {%+ if t %}x{% endif %}", "{# c #}\n  {# d #}  x {#- e -#}  y", "{% raw %}\n {{ x }} {% endraw %}\nz",
    "{%- raw -%}  {% if %} {%- endraw -%}  z", "x {{- s -}} y", "x {{ s }}\n\n", "a\r\nb\rc\n", "{{ 'a\r\nb' }}", "\n\n{{ s }}", "{% for x in l %}{{ x }},{% endfor %}", "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}none{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{{ loop.last }}{% endfor %}", "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{{ loop.index0 }}{{ loop.first }}{{ loop.revindex }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('o', 'e') }}{{ loop.changed(x > 1) }}|{% endfor %}",
    "{% for a in l %}{% for b in l %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.depth0 }};{% endfor %}", "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}", "{% set ns = namespace(a=0) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x is string }}", "{% set x | trim | upper %}  a{{ n }}b {% endset %}[{{ x }}]", "{% macro m(a, b='d', c=a) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 2) }} {{ m(1, c=3) }} {{ m(b=5) }} {{ m.name }}",
    "{% macro m(x) %}{{ y }}{% endmacro %}{% set y = 5 %}{{ m(1) }}{% set y = 6 %}{{ m(1) }}", "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}{{ m(m(1)) | length }}", "{% with a = n, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% filter upper | trim %} x{{ s }} {% endfilter %}", "{% generation %}{{ s }}{% set zz = 1 %}{% endgeneration %}{{ zz is defined }}", "{% if no %}1{% elif n == 7 %}2{% elif t %}3{% else %}4{% endif %}", "{% if undef %}1{% else %}2{% endif %}",
    "{% if rows | selectattr('k', 'equalto', 'none') %}always{% endif %}", "{% set g = l | map('string') %}{{ g | list }}{{ g | list }}", "{% set g = l | map('string') %}{{ g | first }}{{ g | list }}", "{{ 1, 2 }}", "{{ [1, 2,] }}{{ {'a': 1,} }}",
    "{% for x in n %}{% endfor %}", "{% for x in undef %}a{% else %}b{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% set undef.x = 1 %}", "{% set d.x = 1 %}", "{{ s", "{% if t %}", "{% endif %}", "{% for x in l %}", "{{ 'a }}", "{{ (1 }}", "{{ 1) }}", "{# a", "{% raw %}", "{{ }}",
    "{{ s | nofilter }}", "{{ s is notest }}", "{% include 'x' %}", "{% block b %}{% endblock %}", "{% call m() %}{% endcall %}", "{% nonsense %}", "{{ a b }}", "{{ s.}}", "{{ s | }}", "{% break %}", "{% set x = %}", "{{ m(a=1, 2) }}", "{{ 'x' is defined is none }}", "{% set loop = 1 %}",
    "{{ lipsum() }}", "{{ self }}", "{{ - - n }}", "{{ not not n }}", "{{ n if }}", "{{ s|upper|lower|length + 1 }}", "{{ 'a' 'b' ~ 'c' }}", "{{ {'a': {'b': {}}} }}", "{{ '%}' }}{{ '}}' }}", "{%if t%}x{%endif%}", "{{s}}{{-s}}", "{{ -n|abs }}", "{{ (-n)|abs }}",
]
