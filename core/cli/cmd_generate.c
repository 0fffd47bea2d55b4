/* cmd_generate.c - sqz generate: text as it comes.
 *
 * A token can end in the middle of a UTF-8 character, and a decoder may treat the start of a text
 * specially (a leading space), so new text is the difference of two decodings of the last few
 * tokens, held back while its end is not a whole character. */
#include "chat/chat.h"
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_option options[] = {
    {"prompt", CLI_TEXT, "TEXT", NULL, 0, 0, "what the model continues"},
    {"prompt-file", CLI_TEXT, "FILE", NULL, 0, 0, "the same from a file; - = stdin"},
    {"max-new-tokens", CLI_INT, "N", "128", 1, 1e6, "at most so many new tokens"},
    {"temperature", CLI_REAL, "T", "0", 0, 100, "0 = always the likeliest token"},
    {"top-p", CLI_REAL, "P", "1", 0.000001, 1, "sample from the likeliest tokens that sum to P"},
    {"top-k", CLI_INT, "K", "0", 0, 1e9, "sample from the K likeliest tokens; 0 = all"},
    {"ignore-eos", CLI_FLAG, NULL, NULL, 0, 0, "go on after the end-of-text token"},
    {"chat", CLI_FLAG, NULL, NULL, 0, 0,
     "the prompt is a user's message: render it with the model's chat template"},
    {"system", CLI_TEXT, "TEXT", NULL, 0, 0, "with --chat: a system message before it"},
    {"messages", CLI_TEXT, "FILE", NULL, 0, 0,
     "with --chat, in place of a prompt: a JSON array of messages, or an object with messages, "
     "tools and documents; - = stdin"},
    {"tools", CLI_TEXT, "FILE", NULL, 0, 0, "with --chat: a JSON array of the tools' schemas"},
    {"template", CLI_TEXT, "NAME", NULL, 0, 0, "with --chat: which of several chat templates"},
    {"template-set", CLI_LIST, "KEY=JSON", NULL, 0, 0,
     "with --chat: a variable of the template, such as enable_thinking=false"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

enum { OVERLAP = 6 }; /* tokens decoded again for their context */

typedef struct stream {
    const cli *c;
    tokenizer *tok;
    int32_t *ids;           /* prompt and new ones */
    int64_t n, shown, from; /* ids[shown..] are not printed yet; decoding starts at ids[from] */
    char *text;             /* everything printed */
    size_t length;
    int failed;
} stream;

/* Does the text end inside a character?  U+FFFD at the end is how a decoder shows that. */
static int ends_open(const char *text, int64_t n)
{
    if (n >= 3 && memcmp(text + n - 3, "\xef\xbf\xbd", 3) == 0) return 1;
    for (int64_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char b = (unsigned char)text[n - back];
        if (b < 0x80) return 0;
        if (b >= 0xc0) return back < (b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2);
    }
    return 0;
}

static void put_text(stream *s, const char *text, size_t n)
{
    char *grown = realloc(s->text, s->length + n + 1);
    if (!grown) return;
    s->text = grown;
    memcpy(s->text + s->length, text, n);
    s->text[s->length += n] = 0;
    if (cli_json_stdout(s->c)) return;
    if (isatty(STDOUT_FILENO))
        print_safe(stdout, text, n);
    else
        fwrite(text, 1, n, stdout);
    if (fflush(stdout)) s->failed = 1;
}

/* Prints what the ids behind `shown` add; with `all` also an unfinished end. */
static void show(stream *s, int all)
{
    char *before = NULL, *after = NULL;
    int64_t n_before = 0, n_after = 0;
    if (tokenizer_decode(s->tok, s->ids + s->from, s->shown - s->from, 1, &before, &n_before,
                         NULL) == SQZ_OK &&
        tokenizer_decode(s->tok, s->ids + s->from, s->n - s->from, 1, &after, &n_after, NULL) ==
            SQZ_OK &&
        n_after > n_before && (all || !ends_open(after, n_after))) {
        put_text(s, after + n_before, (size_t)(n_after - n_before));
        s->from = s->shown;
        s->shown = s->n;
        if (s->shown - s->from < OVERLAP) s->from = s->shown > OVERLAP ? s->shown - OVERLAP : 0;
    }
    free(before);
    free(after);
}

static int on_token(void *ctx, int64_t request, int32_t id)
{
    stream *s = ctx;
    (void)request;
    s->ids[s->n++] = id;
    show(s, 0);
    return s->failed || signals_count() > 0;
}

static sqz_status check_options(const cli *c, sqz_error *err)
{
    static const char *const of_chat[] = {"system", "messages", "tools", "template",
                                          "template-set"};
    int chat = cli_flag(c, "chat"), given = cli_given(c, "prompt") + cli_given(c, "prompt-file");
    for (size_t i = 0; i < sizeof of_chat / sizeof *of_chat && !chat; i++)
        if (cli_given(c, of_chat[i]))
            return err_set(err, ERR_USAGE, "--%s is for --chat", of_chat[i]);
    given += cli_given(c, "messages");
    if (given != 1)
        return err_set(err, ERR_USAGE, "give exactly one of --prompt, --prompt-file%s",
                       chat ? " and --messages" : "");
    if (cli_given(c, "messages") && cli_given(c, "system"))
        return err_set(err, ERR_USAGE, "--messages holds the system message; leave --system out");
    return SQZ_OK;
}

static sqz_status read_prompt(const cli *c, char **text, int64_t *bytes, sqz_error *err)
{
    const char *prompt = cli_text(c, "prompt"), *file = cli_text(c, "prompt-file");
    sqz_status s = check_options(c, err);
    if (s) return s;
    if (cli_given(c, "messages")) file = cli_text(c, "messages");
    if (file) return read_text(file, text, bytes, err);
    *text = strdup(prompt);
    *bytes = (int64_t)strlen(prompt);
    return *text ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "no memory for the prompt");
}

/* ---- chat ------------------------------------------------------------------------------------ */

typedef struct conversation { /* everything a template is told */
    json_doc *messages_doc, *tools_doc;
    json_doc **set_docs;
    int n_set;
    cJSON *made, *variables;
    const cJSON *messages;
    chat_options options;
} conversation;

static void conversation_free(conversation *v)
{
    if (v->messages_doc) json_free(v->messages_doc);
    if (v->tools_doc) json_free(v->tools_doc);
    for (int i = 0; i < v->n_set; i++) json_free(v->set_docs[i]);
    free(v->set_docs);
    cJSON_Delete(v->made);
    cJSON_Delete(v->variables);
}

static void add_message(cJSON *messages, const char *role, const char *content)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddItemToArray(messages, m);
    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", content);
}

static sqz_status read_tools(const char *file, conversation *v, sqz_error *err)
{
    char *text = NULL;
    int64_t bytes;
    sqz_status s = read_text(file, &text, &bytes, err);
    if (!s) s = json_parse(text, bytes, JSON_NUMBER_TEXT, file, &v->tools_doc, err);
    free(text);
    if (s) return err_set(err, s == SQZ_E_INVALID ? ERR_USAGE : s, "%s", err->text);
    v->options.tools = json_root(v->tools_doc);
    if (!cJSON_IsArray(v->options.tools))
        return err_set(err, ERR_USAGE, "%s: tools are a JSON array of their schemas", file);
    return SQZ_OK;
}

/* --template-set KEY=JSON; what is no JSON is a text. */
static sqz_status read_variables(const cli *c, conversation *v, sqz_error *err)
{
    const char *const *given;
    int n = cli_list(c, "template-set", &given);
    v->variables = cJSON_CreateObject();
    v->set_docs = calloc((size_t)n + 1, sizeof *v->set_docs);
    if (!v->set_docs) return err_set(err, SQZ_E_NOMEM, "no memory for the template's variables");
    v->options.variables = v->variables;
    for (int i = 0; i < n; i++) {
        const char *equals = strchr(given[i], '=');
        if (!equals || equals == given[i])
            return err_set(err, ERR_USAGE, "--template-set %s: write KEY=JSON", given[i]);
        char *key = path_format("%.*s", (int)(equals - given[i]), given[i]);
        cJSON *value = NULL;
        if (json_parse(equals + 1, (int64_t)strlen(equals + 1), JSON_NUMBER_TEXT, key,
                       &v->set_docs[v->n_set], NULL) == SQZ_OK)
            value = cJSON_Duplicate(json_root(v->set_docs[v->n_set++]), 1);
        cJSON_AddItemToObject(v->variables, key, value ? value : cJSON_CreateString(equals + 1));
        free(key);
    }
    return SQZ_OK;
}

static sqz_status make_conversation(const cli *c, const char *text, int64_t bytes, conversation *v,
                                    sqz_error *err)
{
    sqz_status s = read_variables(c, v, err);
    v->options.add_generation_prompt = 1;
    v->options.name = cli_text(c, "template");
    if (!s && cli_given(c, "tools")) s = read_tools(cli_text(c, "tools"), v, err);
    if (s) return s;
    if (!cli_given(c, "messages")) {
        v->messages = v->made = cJSON_CreateArray();
        if (cli_given(c, "system")) add_message(v->made, "system", cli_text(c, "system"));
        add_message(v->made, "user", text);
        return SQZ_OK;
    }
    s = json_parse(text, bytes, JSON_NUMBER_TEXT, cli_text(c, "messages"), &v->messages_doc, err);
    if (s) return err_set(err, s == SQZ_E_INVALID ? ERR_USAGE : s, "%s", err->text);
    const cJSON *root = json_root(v->messages_doc);
    v->messages = cJSON_IsObject(root) ? json_get(root, "messages") : root;
    if (cJSON_IsArray(json_get(root, "tools")) && !v->options.tools)
        v->options.tools = json_get(root, "tools");
    if (cJSON_IsArray(json_get(root, "documents")))
        v->options.documents = json_get(root, "documents");
    return SQZ_OK;
}

/* Replaces the prompt by what the chat template makes of it. */
static sqz_status apply_template(cli *c, const char *folder, char **text, int64_t *bytes,
                                 sqz_error *err)
{
    conversation v = {0};
    chat *t = NULL;
    char *rendered = NULL;
    int64_t n = 0;
    sqz_status s = make_conversation(c, *text, *bytes, &v, err);
    if (!s) s = chat_open(folder, &t, err);
    if (!s) s = chat_render(t, v.messages, &v.options, &rendered, &n, err);
    if (!s) {
        free(*text);
        *text = rendered;
        *bytes = n;
        cJSON_AddStringToObject(c->json, "prompt", rendered);
    }
    chat_free(t);
    conversation_free(&v);
    return s;
}

static void add_json(cli *c, const stream *s, int64_t n_prompt, const sqz_generation *g,
                     const generate_times *times, int32_t compute)
{
    cJSON_AddStringToObject(c->json, "text", s->text ? s->text : "");
    cJSON *ids = cJSON_AddArrayToObject(c->json, "ids");
    for (int64_t i = 0; i < g->n_ids; i++) cJSON_AddItemToArray(ids, cJSON_CreateNumber(g->ids[i]));
    cJSON_AddNumberToObject(c->json, "prompt_tokens", (double)n_prompt);
    cJSON_AddNumberToObject(c->json, "new_tokens", (double)g->n_ids);
    cJSON_AddBoolToObject(c->json, "stopped", g->stopped);
    json_add_num(c->json, "ttft_seconds", times->ttft_s);
    json_add_num(c->json, "tpot_seconds", times->tpot_s);
    cJSON_AddStringToObject(c->json, "compute", compute_word(compute));
}

/* The prompt's ids with room for the new ones; a model cannot start from nothing. */
static sqz_status encode_prompt(tokenizer *tok, const char *text, int64_t bytes, int64_t max_new,
                                stream *s, sqz_error *err)
{
    int32_t *ids = NULL;
    int64_t n = 0;
    sqz_status st = tokenizer_encode(tok, text, bytes, !cli_flag(s->c, "chat"), &ids, &n, err);
    if (st) return st;
    if (!n && tokenizer_bos(tok) < 0) {
        free(ids);
        return err_set(err, ERR_USAGE, "the prompt is empty and this tokenizer has no start token");
    }
    s->ids = realloc(ids, (size_t)(n + max_new + 1) * sizeof *ids);
    if (!s->ids) {
        free(ids);
        return err_set(err, SQZ_E_NOMEM, "no memory for %lld tokens", (long long)(n + max_new));
    }
    if (!n) s->ids[n++] = tokenizer_bos(tok);
    s->tok = tok;
    s->n = s->shown = n;
    s->from = n > OVERLAP ? n - OVERLAP : 0;
    return SQZ_OK;
}

static sqz_status generate(cli *c, in_process *p, const char *text, int64_t bytes, sqz_error *err)
{
    int64_t max_new = cli_int(c, "max-new-tokens");
    stream s = {.c = c};
    tokenizer *tok;
    sqz_status st = subject_tokenizer(p->subject, &tok, err);
    if (!st) st = encode_prompt(tok, text, bytes, max_new, &s, err);
    if (st) return st;
    int64_t n_prompt = s.n, context = p->subject->config.context;
    if (context > 0 && n_prompt + max_new > context) {
        if (n_prompt >= context) {
            free(s.ids);
            return err_set(err, ERR_USAGE, "the prompt has %lld tokens, the model's context %lld",
                           (long long)n_prompt, (long long)context);
        }
        max_new = context - n_prompt;
        terminal_log(SQZ_LOG_WARN, "the context of %lld leaves %lld new tokens", (long long)context,
                     (long long)max_new);
    }
    sampling sample = {cli_real(c, "temperature"), cli_real(c, "top-p"), cli_int(c, "top-k"),
                       cli_seed(c)};
    int32_t *prompt = malloc((size_t)n_prompt * sizeof *prompt);
    int32_t *fresh = malloc((size_t)max_new * sizeof *fresh);
    generate_times times = {0};
    sqz_generation g = {.prompt = prompt, .n_prompt = n_prompt, .ids = fresh};
    if (!prompt || !fresh)
        st = err_set(err, SQZ_E_NOMEM, "no memory for the tokens");
    else {
        memcpy(prompt, s.ids, (size_t)n_prompt * sizeof *prompt);
        st = model_generate(p->model, &g, 1, max_new, &sample, cli_flag(c, "ignore-eos"), on_token,
                            &s, &times, err);
    }
    show(&s, 1);
    cli_say(c, "\n");
    if (!st || st == SQZ_E_CANCELLED) add_json(c, &s, n_prompt, &g, &times, p->subject->compute);
    if (!st && signals_count()) st = err_set(err, SQZ_E_CANCELLED, "interrupted");
    free(prompt);
    free(fresh);
    free(s.ids);
    free(s.text);
    return st;
}

static sqz_status run(cli *c, sqz_error *err)
{
    char *text = NULL;
    int64_t bytes = 0;
    in_process p;
    sqz_status s = read_prompt(c, &text, &bytes, err);
    if (!s) s = in_process_open(c, c->args[0], 1, &p, err);
    if (!s) {
        if (cli_flag(c, "chat")) s = apply_template(c, p.ref.folder, &text, &bytes, err);
        if (!s) s = generate(c, &p, text, bytes, err);
        in_process_close(&p);
    }
    free(text);
    return s;
}

const command cmd_generate = {
    .name = "generate",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "continue a prompt, text on stdout as it comes",
    .details = "The prompt is encoded with the special tokens of the tokenizer's template. With "
               "--chat the model's chat template writes the prompt, special tokens included. On a "
               "terminal, control characters from the model are shown as \\x1b-like escapes.",
    .examples =
        "  sqz generate examples/tiny-arith/model --prompt \"Question: What is 2 + 3?\"\n"
        "  sqz generate runs/a/models/s3 --prompt-file q.txt --temperature 0.8 --top-p 0.95 "
        "--seed 7\n"
        "  sqz generate MODEL --chat --system \"Be brief.\" --prompt \"What is 2 + 3?\"\n",
    OPTIONS(options),
    .run = run};
