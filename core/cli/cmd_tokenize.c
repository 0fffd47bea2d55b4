/* cmd_tokenize.c - sqz tokenize: text to ids, one JSON array a line, and back. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "tokenizer/tokenizer.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_option options[] = {
    {"text", CLI_TEXT, "TEXT", NULL, 0, 0, "one input, as given"},
    {"file", CLI_TEXT, "FILE", NULL, 0, 0, "one input, the whole file; - = stdin"},
    {"lines", CLI_TEXT, "FILE", NULL, 0, 0, "one input a line (line ends left out); - = stdin"},
    {"special", CLI_FLAG, NULL, NULL, 0, 0,
     "add the special tokens of the tokenizer's template; with --decode keep them in the text"},
    {"decode", CLI_FLAG, NULL, NULL, 0, 0,
     "the other way: inputs are JSON arrays of ids; prints the text (with --lines one JSON string "
     "a line)"},
};

typedef struct job {
    cli *c;
    tokenizer *tok;
    cJSON *out;
    int special, decode, lines;
} job;

static sqz_status encode_one(job *j, const char *text, int64_t bytes, sqz_error *err)
{
    int32_t *ids = NULL;
    int64_t n = 0;
    sqz_status s = tokenizer_encode(j->tok, text, bytes, j->special, &ids, &n, err);
    if (s) return s;
    cJSON *row = cJSON_CreateArray();
    cli_say(j->c, "[");
    for (int64_t i = 0; i < n; i++) {
        cli_say(j->c, "%s%d", i ? ", " : "", ids[i]);
        if (cli_given(j->c, "json")) cJSON_AddItemToArray(row, cJSON_CreateNumber(ids[i]));
    }
    cli_say(j->c, "]\n");
    cJSON_AddItemToArray(j->out, row);
    free(ids);
    return SQZ_OK;
}

static sqz_status read_ids(job *j, const char *text, int64_t bytes, int32_t **ids, int64_t *n,
                           sqz_error *err)
{
    json_doc *doc = NULL;
    sqz_status s = json_parse(text, bytes, 0, "ids", &doc, err);
    if (s) return err_set(err, ERR_USAGE, "%s; --decode wants a JSON array of ids", err->text);
    const cJSON *root = json_root(doc), *item;
    *n = 0;
    *ids = calloc((size_t)cJSON_GetArraySize(root) + 1, sizeof **ids);
    if (!cJSON_IsArray(root))
        s = err_set(err, ERR_USAGE, "--decode wants a JSON array of ids");
    else if (!*ids)
        s = err_set(err, SQZ_E_NOMEM, "no memory for the ids");
    if (!s) cJSON_ArrayForEach(item, root)
        {
            double v = item->valuedouble, size = (double)tokenizer_size(j->tok);
            if (!cJSON_IsNumber(item) || !(v >= 0 && v < size) || v != (double)(int32_t)v) {
                s = err_set(err, ERR_USAGE,
                            "entry %lld of the array is no id of this tokenizer (0..%.0f)",
                            (long long)*n, size - 1);
                break;
            }
            (*ids)[(*n)++] = (int32_t)v;
        }
    if (s) {
        free(*ids);
        *ids = NULL;
    }
    json_free(doc);
    return s;
}

static sqz_status decode_one(job *j, const char *text, int64_t bytes, sqz_error *err)
{
    int32_t *ids = NULL;
    int64_t n = 0, length = 0;
    char *plain = NULL;
    sqz_status s = read_ids(j, text, bytes, &ids, &n, err);
    if (!s) s = tokenizer_decode(j->tok, ids, n, !j->special, &plain, &length, err);
    if (!s) {
        cJSON *string = cJSON_CreateString(plain);
        if (j->lines) {
            char *quoted = cJSON_PrintUnformatted(string);
            cli_say(j->c, "%s\n", quoted ? quoted : "\"\"");
            free(quoted);
        } else if (!cli_json_stdout(j->c)) {
            if (isatty(STDOUT_FILENO))
                print_safe(stdout, plain, (size_t)length);
            else
                fwrite(plain, 1, (size_t)length, stdout);
            putchar('\n');
        }
        cJSON_AddItemToArray(j->out, string);
    }
    free(plain);
    free(ids);
    return s;
}

static sqz_status one(job *j, const char *text, int64_t bytes, sqz_error *err)
{
    return j->decode ? decode_one(j, text, bytes, err) : encode_one(j, text, bytes, err);
}

static sqz_status each_line(job *j, const char *text, int64_t bytes, sqz_error *err)
{
    const char *end = text + bytes;
    int64_t line = 0;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        int64_t length = stop - at;
        if (length && at[length - 1] == '\r') length--;
        line++;
        sqz_status s = one(j, at, length, err);
        if (s) {
            err_prefix(err, "line %lld", (long long)line);
            return s;
        }
        at = stop + 1;
    }
    return SQZ_OK;
}

static sqz_status run(cli *c, sqz_error *err)
{
    const char *text = cli_text(c, "text"), *file = cli_text(c, "file"),
               *lines = cli_text(c, "lines");
    if (!!text + !!file + !!lines != 1)
        return err_set(err, ERR_USAGE, "give exactly one of --text, --file, --lines");
    job j = {.c = c,
             .special = cli_flag(c, "special"),
             .decode = cli_flag(c, "decode"),
             .lines = lines != NULL};
    char *folder = NULL;
    sqz_status s = cli_model_folder(c->args[0], HUB_TOKENIZER, &folder, err);
    if (!s) s = subject_check_path(folder, err);
    if (!s) s = tokenizer_open(folder, &j.tok, err);
    free(folder);
    if (s) return s;
    j.out = cJSON_AddArrayToObject(c->json, j.decode ? "texts" : "ids");
    char *data = NULL;
    int64_t bytes = 0;
    if (text)
        s = one(&j, text, (int64_t)strlen(text), err);
    else
        s = read_text(file ? file : lines, &data, &bytes, err);
    if (!s && file) s = one(&j, data, bytes, err);
    if (!s && lines) s = each_line(&j, data, bytes, err);
    free(data);
    tokenizer_free(j.tok);
    return s;
}

const command cmd_tokenize = {
    .name = "tokenize",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "text to token ids, one JSON array a line",
    .examples = "  sqz tokenize examples/tiny-arith/model --text \"Question: 2 + 3\"\n"
                "  sqz tokenize examples/tiny-arith/model --lines prompts.txt --special\n"
                "  sqz tokenize examples/tiny-arith/model --decode --text \"[11, 42, 7]\"\n",
    OPTIONS(options),
    .run = run};
